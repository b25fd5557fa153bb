package admin

import (
	"net/http"

	"sallyport/relay/connector"
)

func (a *Admin) rotateKey(q *http.Request) (int, any, error) {
	var body RotateKey
	if err := read(q, &body); err != nil {
		return 0, nil, err
	}
	gw, name := q.PathValue("gateway"), q.PathValue("name")
	info, secret, err := a.c.Connectors.RotateKey(q.Context(), gw, name, q.PathValue("id"), body.Overlap)
	if err != nil {
		return 0, nil, err
	}
	a.event(q, "key rotated", "gateway", gw, "connector", name, "key", info.Name, "key_id", info.ID, "overlap", body.Overlap)
	return http.StatusCreated, NewKey{KeyInfo: info, Key: secret}, nil
}

func (a *Admin) listUsers(q *http.Request) (int, any, error) {
	users, err := a.c.Connectors.ListUsers(q.PathValue("gateway"), q.PathValue("name"))
	return http.StatusOK, List[connector.UserInfo]{users}, err
}

func (a *Admin) setUser(q *http.Request) (int, any, error) {
	var body SetUser
	if err := read(q, &body); err != nil {
		return 0, nil, err
	}
	gw, name, user := q.PathValue("gateway"), q.PathValue("name"), q.PathValue("user")
	info, err := a.c.Connectors.SetUser(q.Context(), gw, name, user, body.Password)
	if err != nil {
		return 0, nil, err
	}
	a.event(q, "user set", "gateway", gw, "connector", name, "user", user)
	return http.StatusOK, info, nil
}

func (a *Admin) removeUser(q *http.Request) (int, any, error) {
	gw, name, user := q.PathValue("gateway"), q.PathValue("name"), q.PathValue("user")
	if err := a.c.Connectors.RemoveUser(q.Context(), gw, name, user); err != nil {
		return 0, nil, err
	}
	a.event(q, "user removed", "gateway", gw, "connector", name, "user", user)
	return http.StatusNoContent, nil, nil
}

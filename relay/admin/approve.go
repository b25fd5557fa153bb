package admin

import "net/http"

func (a *Admin) approveAgent(q *http.Request) (int, any, error) {
	id := q.PathValue("id")
	if err := a.c.Gateways.ApproveAgent(q.Context(), id); err != nil {
		return 0, nil, err
	}
	a.event(q, "agent approved", "agent", id)
	return http.StatusNoContent, nil, nil
}

func (a *Admin) refuseAgent(q *http.Request) (int, any, error) {
	id := q.PathValue("id")
	if err := a.c.Gateways.RefuseAgent(q.Context(), id); err != nil {
		return 0, nil, err
	}
	a.event(q, "agent refused", "agent", id)
	return http.StatusNoContent, nil, nil
}

func (a *Admin) approveCode(q *http.Request) (int, any, error) {
	code := q.PathValue("id")
	agents, err := a.c.Gateways.ApproveCode(q.Context(), code)
	if err != nil {
		return 0, nil, err
	}
	for _, id := range agents {
		a.event(q, "agent approved", "agent", id, "code", code)
	}
	return http.StatusOK, Approved{agents}, nil
}

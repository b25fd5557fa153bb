package admin

import (
	"net/http"

	"sallyport/relay/gateway"
)

func (a *Admin) allowEntra(q *http.Request) (int, any, error) {
	var rule gateway.EntraRule
	if err := read(q, &rule); err != nil {
		return 0, nil, err
	}
	name := q.PathValue("name")
	rule, err := a.c.Gateways.AllowEntra(q.Context(), name, rule)
	if err != nil {
		return 0, nil, err
	}
	a.event(q, "entra application allowed", "gateway", name, "tenant", rule.Tenant, "app", rule.App, "object", rule.Object, "role", rule.Role)
	return http.StatusOK, rule, nil
}

func (a *Admin) disallowEntra(q *http.Request) (int, any, error) {
	var rule gateway.EntraRule
	if err := read(q, &rule); err != nil {
		return 0, nil, err
	}
	name := q.PathValue("name")
	if err := a.c.Gateways.DisallowEntra(q.Context(), name, rule); err != nil {
		return 0, nil, err
	}
	a.event(q, "entra application disallowed", "gateway", name, "app", rule.App, "object", rule.Object, "role", rule.Role)
	return http.StatusNoContent, nil, nil
}

package policy

import "testing"

func TestDecideTemplate(t *testing.T) {
	t.Parallel()
	p, err := Compile([]string{
		"GET /orders/{id}", "GET /orders/4711/lines", "POST /Customers({id})", "GET /files/{path:encoded}", "GET /jobs/{id}:run",
		"GET /reports/**", "GET /caf%C3%A9/my%20list", "GET /sap/X;v=2/**",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, template string
		want             bool
	}{
		{"GET", "/orders/{orderId}", true},
		{"POST", "/orders/{orderId}", false},
		{"GET", "/orders/{orderId}/lines", false}, // for 4711 alone
		{"GET", "/orders/4711/lines", true},
		{"GET", "/orders/", false},
		{"GET", "/orders/{a}-{b}", true},
		{"POST", "/Customers({key})", true},
		{"POST", "/Customers", false},
		{"GET", "/files/{path}", true},
		{"GET", "/jobs/{id}:run", true},
		{"GET", "/jobs/{id}", false},
		{"GET", "/reports", true},
		{"GET", "/reports/{y}/{m}/x", true},
		{"GET", "/café/my list", true},
		{"GET", "/sap/X;v=2/orders", true},
		{"GET", "/reports/../admin", false},
		{"GET", "/reports/{open", true},
		{"GET", "reports", false},
		{"GET", "", false},
	} {
		if got := p.DecideTemplate(c.method, c.template); got.Allowed != c.want {
			t.Errorf("%s %s: %+v, want %v", c.method, c.template, got, c.want)
		}
	}
}

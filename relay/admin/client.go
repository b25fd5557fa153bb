package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sallyport/relay/connector"
	"sallyport/relay/gateway"
	"sallyport/tunnel"
)

// ErrNotRunning says that no relay answers on the socket.
var ErrNotRunning = errors.New("the relay is not running")

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// maxLogLine bounds one event; the relay keeps none that is longer.
const maxLogLine = 64 << 10

// A Client calls the admin API of a relay. An error of the relay's is a *Problem.
type Client struct {
	path  string
	base  url.URL // of the relay over HTTPS; elsewhere it means nothing
	token func(context.Context) (string, error)
	query string // of every request
	http  *http.Client
}

// NewRemoteClient makes a client for a relay's admin API over HTTPS: base is https://admin.relay.example.com, and token gives
// a bearer token for each request.
func NewRemoteClient(base string, token func(context.Context) (string, error)) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("%.200q is no URL of an admin API (write https://admin.relay.example.com)", base)
	}
	u.Path = ""
	t := http.DefaultTransport.(*http.Transport).Clone()
	return &Client{path: u.String(), base: *u, token: token, http: &http.Client{
		Transport: t, Timeout: 2 * requestTimeout,
		// A redirect would take the token elsewhere; the admin API makes none.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Login says where to get a token for the relay. It needs none.
func (c *Client) Login(ctx context.Context) (Login, error) {
	return call[Login](ctx, c, http.MethodGet, nil, "login")
}

// Whoami says who the relay takes the caller for.
func (c *Client) Whoami(ctx context.Context) (Whoami, error) {
	return call[Whoami](ctx, c, http.MethodGet, nil, "whoami")
}

// NewClient makes a client for the socket at path. It dials when it is used.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", path)
	}
	return &Client{path: path, base: url.URL{Scheme: "http", Host: "relay"}, http: &http.Client{
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true},
		Timeout:   2 * requestTimeout,
	}}
}

// SetLogLevel sets the level of the relay's log.
func (c *Client) SetLogLevel(ctx context.Context, l LogLevel) (LogLevel, error) {
	return call[LogLevel](ctx, c, http.MethodPut, l, "log-level")
}

// Status of the relay.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, nil, "status")
}

// Gateways lists the gateways with their agents and links.
func (c *Client) Gateways(ctx context.Context) ([]gateway.Status, error) {
	l, err := call[List[gateway.Status]](ctx, c, http.MethodGet, nil, "gateways")
	return l.Items, err
}

// AddGateway makes a gateway; see gateway.Registry.
func (c *Client) AddGateway(ctx context.Context, name string, join NewJoin) (Join, error) {
	return call[Join](ctx, c, http.MethodPost, AddGateway{Name: name, NewJoin: join}, "gateways")
}

// NewJoin gives a join string for more agents.
func (c *Client) NewJoin(ctx context.Context, name string, join NewJoin) (Join, error) {
	return call[Join](ctx, c, http.MethodPost, join, "gateways", name, "join")
}

// ApproveAgent lets an agent link that waits for it.
func (c *Client) ApproveAgent(ctx context.Context, id string) error {
	_, err := call[none](ctx, c, http.MethodPost, nil, "agents", id, "approve")
	return err
}

// RefuseAgent shuts out an agent that waits for approval.
func (c *Client) RefuseAgent(ctx context.Context, id string) error {
	_, err := call[none](ctx, c, http.MethodPost, nil, "agents", id, "refuse")
	return err
}

// ApproveCode approves all agents that have joined with the code of this ID so far.
func (c *Client) ApproveCode(ctx context.Context, code string) ([]string, error) {
	a, err := call[Approved](ctx, c, http.MethodPost, nil, "codes", code, "approve")
	return a.Agents, err
}

// AllowEntra lets an application link as an agent of a gateway; it gives the rule in full.
func (c *Client) AllowEntra(ctx context.Context, name string, rule gateway.EntraRule) (gateway.EntraRule, error) {
	return call[gateway.EntraRule](ctx, c, http.MethodPost, rule, "gateways", name, "entra")
}

// DisallowEntra takes that away, and closes the application's links.
func (c *Client) DisallowEntra(ctx context.Context, name string, rule gateway.EntraRule) error {
	_, err := call[none](ctx, c, http.MethodDelete, rule, "gateways", name, "entra")
	return err
}

// RemoveGateway removes a gateway, its agents and its connectors.
func (c *Client) RemoveGateway(ctx context.Context, name string) error {
	_, err := call[none](ctx, c, http.MethodDelete, nil, "gateways", name)
	return err
}

// Receipts gives a receipt for each head of an agent's record of calls that the relay keeps, the oldest first.
func (c *Client) Receipts(ctx context.Context, agent string) ([]tunnel.AuditReceipt, error) {
	l, err := call[List[tunnel.AuditReceipt]](ctx, c, http.MethodGet, nil, "agents", agent, "receipts")
	return l.Items, err
}

// RevokeAgent shuts an agent out.
func (c *Client) RevokeAgent(ctx context.Context, id string) error {
	_, err := call[none](ctx, c, http.MethodPost, nil, "agents", id, "revoke")
	return err
}

// RemoveAgent forgets an agent, and shuts it out if it was not revoked.
func (c *Client) RemoveAgent(ctx context.Context, id string) error {
	_, err := call[none](ctx, c, http.MethodDelete, nil, "agents", id)
	return err
}

// Connectors lists the published connectors.
func (c *Client) Connectors(ctx context.Context) ([]Published, error) {
	l, err := call[List[Published]](ctx, c, http.MethodGet, nil, "connectors")
	return l.Items, err
}

// Change gives a connector other settings; its keys stay.
func (c *Client) Change(ctx context.Context, what connector.Connector) (Outcome, error) {
	return call[Outcome](ctx, c, http.MethodPut, what, "connectors", what.Gateway, what.Name)
}

// Publish makes a connector.
func (c *Client) Publish(ctx context.Context, what connector.Connector) (Outcome, error) {
	return call[Outcome](ctx, c, http.MethodPost, what, "connectors")
}

// PlanChange says what Change would do.
func (c *Client) PlanChange(ctx context.Context, what connector.Connector) (Outcome, error) {
	return call[Outcome](ctx, c.dry(), http.MethodPut, what, "connectors", what.Gateway, what.Name)
}

// PlanPublish says what Publish would do.
func (c *Client) PlanPublish(ctx context.Context, what connector.Connector) (Outcome, error) {
	return call[Outcome](ctx, c.dry(), http.MethodPost, what, "connectors")
}

// dry is the same client, whose requests change nothing.
func (c *Client) dry() *Client {
	d := *c
	d.query = "dryRun=true"
	return &d
}

// Unpublish takes a connector and its keys away.
func (c *Client) Unpublish(ctx context.Context, gateway, name string) error {
	_, err := call[none](ctx, c, http.MethodDelete, nil, "connectors", gateway, name)
	return err
}

// Definition gives a connector's definition as the agent sent it.
func (c *Client) Definition(ctx context.Context, gateway, name string) (Definition, error) {
	return call[Definition](ctx, c, http.MethodGet, nil, "connectors", gateway, name, "definition")
}

// Changes asks what is different for a connector's makers since they had its definition last.
func (c *Client) Changes(ctx context.Context, gateway, name string) (Changes, error) {
	return call[Changes](ctx, c, http.MethodGet, nil, "connectors", gateway, name, "changes")
}

// Exported notes that makers have the definition of this digest now.
func (c *Client) Exported(ctx context.Context, gateway, name, digest string) error {
	_, err := call[none](ctx, c, http.MethodPost, Exported{digest}, "connectors", gateway, name, "exported")
	return err
}

// Share makes a link to a connector's definition.
func (c *Client) Share(ctx context.Context, gateway, name string, share AddShare) (Shared, error) {
	return call[Shared](ctx, c, http.MethodPost, share, "connectors", gateway, name, "shares")
}

// RevokeShares voids all links to a connector's definition.
func (c *Client) RevokeShares(ctx context.Context, gateway, name string) error {
	_, err := call[none](ctx, c, http.MethodDelete, nil, "connectors", gateway, name, "shares")
	return err
}

// Keys lists the keys of a connector.
func (c *Client) Keys(ctx context.Context, gateway, name string) ([]connector.KeyInfo, error) {
	l, err := call[List[connector.KeyInfo]](ctx, c, http.MethodGet, nil, "connectors", gateway, name, "keys")
	return l.Items, err
}

// AddKey makes a key.
func (c *Client) AddKey(ctx context.Context, gateway, name string, key AddKey) (NewKey, error) {
	return call[NewKey](ctx, c, http.MethodPost, key, "connectors", gateway, name, "keys")
}

// RevokeKey takes a key away, by name or ID.
func (c *Client) RevokeKey(ctx context.Context, gateway, name, key string) error {
	_, err := call[none](ctx, c, http.MethodDelete, nil, "connectors", gateway, name, "keys", key)
	return err
}

// Log hands events to fn, one JSON object each, oldest first, until there are no more or, with Follow, ctx ends.
func (c *Client) Log(ctx context.Context, l LogQuery, fn func(event []byte) error) error {
	target := c.base.JoinPath("v1", "log")
	target.RawQuery = l.values().Encode()
	resp, err := c.stream(ctx, target)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return fmt.Errorf("read the relay's answer: %w", err)
		}
		return problemOf(resp, text)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLogLine)
	for lines.Scan() {
		if err := fn(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("read the log: %w", err)
	}
	return nil
}

// stream makes a request whose answer lasts as long as is wanted.
func (c *Client) stream(ctx context.Context, target *url.URL) (*http.Response, error) {
	q, err := c.request(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: c.http.Transport, CheckRedirect: c.http.CheckRedirect}).Do(q)
	if err != nil {
		return nil, c.unreachable(err)
	}
	return resp, nil
}

// request makes a request with the token, if there is one.
func (c *Client) request(ctx context.Context, method string, target *url.URL, body io.Reader) (*http.Request, error) {
	q, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	if c.token != nil {
		token, err := c.token(ctx)
		if err != nil {
			return nil, err
		}
		q.Header.Set("Authorization", "Bearer "+token)
	}
	return q, nil
}

// problemOf is the error that the relay answered with.
func problemOf(resp *http.Response, text []byte) *Problem {
	p := &Problem{Status: resp.StatusCode}
	if json.Unmarshal(text, p) != nil || p.Detail == "" {
		p.Detail = fmt.Sprintf("the relay answers %s; is it of another version than this program?", resp.Status)
	}
	return p
}

// RotateKey makes a new key in the place of one that goes on working for overlap.
func (c *Client) RotateKey(ctx context.Context, gateway, name, key string, overlap time.Duration) (NewKey, error) {
	return call[NewKey](ctx, c, http.MethodPost, RotateKey{Overlap: overlap}, "connectors", gateway, name, "keys", key, "rotate")
}

// Users lists the users of a connector.
func (c *Client) Users(ctx context.Context, gateway, name string) ([]connector.UserInfo, error) {
	l, err := call[List[connector.UserInfo]](ctx, c, http.MethodGet, nil, "connectors", gateway, name, "users")
	return l.Items, err
}

// SetUser makes a user, or gives one another password.
func (c *Client) SetUser(ctx context.Context, gateway, name, user, password string) (connector.UserInfo, error) {
	return call[connector.UserInfo](ctx, c, http.MethodPut, SetUser{Password: password}, "connectors", gateway, name, "users", user)
}

// RemoveUser takes a user away.
func (c *Client) RemoveUser(ctx context.Context, gateway, name, user string) error {
	_, err := call[none](ctx, c, http.MethodDelete, nil, "connectors", gateway, name, "users", user)
	return err
}

// none is the answer of calls that have none.
type none struct{}

// call makes one request; path are the segments after /v1.
func call[T any](ctx context.Context, c *Client, method string, body any, path ...string) (answer T, err error) {
	u := c.base.JoinPath("v1")
	for _, segment := range path {
		u = u.JoinPath(url.PathEscape(segment))
	}
	u.RawQuery = c.query
	raw, err := json.Marshal(body)
	if err != nil {
		return answer, fmt.Errorf("encode the request: %w", err)
	}
	q, err := c.request(ctx, method, u, bytes.NewReader(raw))
	if err != nil {
		return answer, err
	}
	resp, err := c.http.Do(q)
	if err != nil {
		return answer, c.unreachable(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer, fmt.Errorf("read the relay's answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		return answer, problemOf(resp, text)
	}
	if resp.StatusCode == http.StatusNoContent {
		return answer, nil
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return answer, fmt.Errorf("read the relay's answer: %w", err)
	}
	return answer, nil
}

// unreachable says why the socket could not be used and what to do.
func (c *Client) unreachable(err error) error {
	switch {
	case c.base.Scheme == "https":
		return fmt.Errorf("call the relay at %s: %w", c.path, err)
	case errors.Is(err, fs.ErrNotExist), refused(err):
		return fmt.Errorf("%w (nobody answers on %s); start it with 'sallyport-relay serve --config relay.yaml', "+
			"or name its socket with --socket or its file with --config", ErrNotRunning, c.path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("this account may not use the relay's admin socket %s; use the account that the relay runs as, or root", c.path)
	}
	return fmt.Errorf("call the relay on %s: %w", c.path, err)
}

package admin

import (
	"context"
	"errors"
	"net/http"

	"sallyport/relay/connector"
	"sallyport/relay/gateway"
	"sallyport/relay/store"
)

// errLogBusy is for one reader of the log too many.
var errLogBusy = errors.New("the log is being read by as many as may read it at once; try again later")

// badRequest is a request whose form is wrong.
type badRequest struct{ text string }

func (e *badRequest) Error() string { return e.text }

// toProblem is the one place where an error becomes a status. The detail is for the admin, who may know everything.
func toProblem(err error) *Problem {
	p := &Problem{Type: "about:blank", Detail: err.Error()}
	_, invalid := errors.AsType[*connector.Invalid](err)
	_, bad := errors.AsType[*badRequest](err)
	_, name := errors.AsType[*gateway.NameError](err)
	_, denied := errors.AsType[*forbidden](err)
	_, away := errors.AsType[*issuerAway](err)
	_, none := errors.AsType[*noDefinition](err)
	switch {
	case denied:
		p.Status, p.Title = http.StatusForbidden, "Your role does not allow this."
	case invalid, bad, name, errors.Is(err, gateway.ErrCodeLife), errors.Is(err, gateway.ErrCodeUses), errors.Is(err, gateway.ErrEntra),
		errors.Is(err, gateway.ErrFull):
		p.Status, p.Title = http.StatusBadRequest, "The request cannot be fulfilled as it is."
	case errors.Is(err, gateway.ErrUnknownGateway):
		p.Status, p.Title = http.StatusNotFound, "There is no such gateway."
		if err == gateway.ErrUnknownGateway {
			p.Detail = "unknown gateway; 'sallyport-relay gateway list' shows the gateways"
		}
	case errors.Is(err, gateway.ErrUnknownAgent):
		p.Status, p.Title = http.StatusNotFound, "There is no such agent."
	case errors.Is(err, connector.ErrUnknownConnector), errors.Is(err, connector.ErrUnknownKey),
		errors.Is(err, connector.ErrUnknownUser):
		p.Status, p.Title = http.StatusNotFound, "There is no such connector, key or user."
	case away:
		p.Status, p.Title = http.StatusBadGateway, "The issuer cannot be asked."
	case none:
		p.Status, p.Title = http.StatusNotFound, "There is no definition."
	case errors.Is(err, gateway.ErrExists), errors.Is(err, connector.ErrExists):
		p.Status, p.Title = http.StatusConflict, "The name is taken."
	case errors.Is(err, gateway.ErrNotPending):
		p.Status, p.Title = http.StatusConflict, "There is nothing to approve or refuse."
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrChanged):
		p.Status, p.Title = http.StatusConflict, "It was changed by somebody else in the meantime."
	case errors.Is(err, store.ErrNoSpace):
		p.Status, p.Title = http.StatusInsufficientStorage, "The relay's disk is full."
	case errors.Is(err, errLogBusy):
		p.Status, p.Title = http.StatusServiceUnavailable, "The log is busy."
	case errors.Is(err, store.ErrFailed):
		p.Status, p.Title = http.StatusServiceUnavailable, "The store takes no changes now."
	case errors.Is(err, context.DeadlineExceeded):
		p.Status, p.Title = http.StatusGatewayTimeout, "The store does not answer in time."
	default:
		p.Status, p.Title = http.StatusInternalServerError, "The relay could not do it."
	}
	return p
}

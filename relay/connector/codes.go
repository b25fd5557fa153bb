package connector

// A Code is one kind of problem: a stable name for machines, its status, and what people should know about it.
// docs/errors.md is made from Codes.
type Code struct {
	Name   string
	Status int
	// Title is what the problem says, the same each time.
	Title string
	// Origin is who says so: the relay, the agent, or the upstream as seen by the agent.
	Origin string
	// Means is for the reader of docs/errors.md: what happened and what to do.
	Means string
}

// Codes are all problems that a caller can meet.
func Codes() []Code { return codes[:] }

// findCode looks a code up; a table of this size is searched faster than a map is built.
func findCode(name string) (Code, bool) {
	for _, c := range codes {
		if c.Name == name {
			return c, true
		}
	}
	return Code{}, false
}

var codes = [...]Code{
	// Said by the relay, about the request.
	{"bad-target", 400, "The request target cannot be served", "relay", "The relay takes `/path` and `https://relay/path`, nothing else."},
	{"bad-request", 400, "The request cannot be passed on", "relay or agent", "The request is not one that HTTP allows in this place, such as an upgrade with a body or a body whose framing is broken."},
	{"key-required", 401, "A key is required", "relay", "Send the connector's key, by default in the `X-API-Key` header. `WWW-Authenticate` names the place."},
	{"key-refused", 401, "The key is not accepted", "relay", "The key is unknown, expired or revoked, belongs to another connector, or was sent twice."},
	{"logon-missing", 401, "A user name and a password are required", "relay", "Send user name and password of one of the connector's users, as Basic credentials."},
	{"logon-refused", 401, "The user name and password are not accepted", "relay or agent", "The connector has no such user, or the password is another. They were sent twice, or not as Basic credentials. From the agent: the domain has refused the Windows logon; the same password is not tried again for 30 minutes."},
	{"token-required", 401, "An access token is required", "relay or agent", "Send an access token of the connector's issuer as `Authorization: Bearer ...`. `WWW-Authenticate` names the scopes, if any are demanded. The agent says so where its rule demands proof of who calls: the connector has to take OAuth 2.0 then."},
	{"token-refused", 401, "The access token is not accepted", "relay or agent", "The token is forged, has expired or is not valid yet, is another issuer's or for another audience. The detail says which; `connector check-token` says more. Get a new token."},
	{"token-misplaced", 400, "The access token was sent in a way that is not taken", "relay", "A token goes into the field `Authorization`, once; never into the address."},
	{"token-insufficient", 403, "The access token does not admit this caller", "relay", "The token is good, and lacks a scope, role or claim, or is of an application or kind of caller that the connector does not admit. The detail says which."},
	{"address-refused", 403, "Not to be called from here", "relay", "The connector (`connector publish --from`) or the key (`key add --from`) is for callers from other addresses."},
	{"rate-exceeded", 429, "Too many requests", "relay", "The connector or the key has a rate, and it is used up. `Retry-After` says when the next request may come."},
	{"slowed", 429, "Too many failed attempts", "relay", "Too many attempts to authenticate have failed, from this address or for this name. `Retry-After` says how long to wait; what was shown was wrong, or was not looked at."},
	{"cors-refused", 403, "This web page may not call the connector", "relay", "A browser asked on behalf of a page whose origin is not in the connector's CORS list."},
	{"not-found", 404, "Nothing is published here", "relay", "No connector has this address. The answer is the same for a gateway that does not exist."},
	{"method-refused", 405, "The method is not served", "relay", "CONNECT and TRACE are never passed on."},
	{"caller-too-slow", 408, "The request's body did not arrive", "relay", "The caller sent nothing for too long."},
	{"body-too-large", 413, "The request's body is too large", "relay or agent", "The body exceeds the connector's limit, or the API's on the agent. The detail names the limit."},
	{"header-too-large", 431, "The request's header is too large", "relay", "The header fields together exceed the relay's limit. The detail names it."},
	{"outcome-unknown", 409, "It is unknown whether the request was run", "relay", "Given to Power Platform in place of a 5xx, which it would repeat by itself: the request may have been run, and running it twice could do harm. Check, then repeat by hand."},

	// Said by the relay, about calls that outlive their callers.
	{"no-operation", 404, "Nothing is kept here", "relay", "The answer of a deferred call has expired or was deleted, or the address is not this connector's."},
	{"still-running", 409, "The first request with this key is still under way", "relay", "A repeat that was not run. Ask again later, with the same key."},
	{"answer-not-kept", 409, "The request was answered, but the answer is not kept", "relay", "The API has run the request; its answer is larger than what the relay keeps (`operations.answer`), or could not be stored."},
	{"key-reused", 422, "The key was used for another request", "relay", "A repeat has the body of the first request. Use a new `Idempotency-Key` for a new request."},

	// Said by the relay, about the way to the agent. The request was not run.
	{"no-agent", 503, "No agent is linked", "relay", "No agent of the gateway is linked to the relay. The agent's log says why."},
	{"not-offered", 503, "The API is not offered now", "relay", "Agents are linked, but none offers the API. Compare the names in `agent.yaml` and in the connector."},
	{"paused", 503, "The API is paused", "relay or agent", "An admin of the agents has paused the API (`sallyport-agent pause`). The request was not run; repeat it later."},
	{"unrecorded", 503, "The agent cannot put the call on record", "agent", "The agent makes no call that is not on record (`audit: {on_failure: refuse}`), and its disk takes none. Its log has the cause. The request was not run; repeat it later."},
	{"not-run", 503, "The agent took no new request", "relay", "The agent was busy or restarting. The request was not run; repeat it."},
	{"issuer-unreachable", 503, "Tokens cannot be verified now", "relay or agent", "The relay, or the agent, cannot fetch the keys of the token's issuer; keys that it knows go on working. The request was not run; repeat it. Its log has the cause."},
	{"relay-busy", 503, "The relay is busy", "relay", "The relay, this connector or this key has as many requests under way as it may. The request was not run; repeat it."},

	// Said by the relay, about a request that may have been run.
	{"caller-gone", 499, "The caller hung up", "relay", "Only in the access log: nobody was there to read it."},
	{"internal", 500, "Something failed that never should", "relay or agent", "A fault of ours. The log of the program that is named as origin has the reason under the request ID."},
	{"agent-failed", 502, "The agent gave up the request", "agent", "The agent's log has the reason under the request ID."},
	{"bad-answer", 502, "The answer cannot be passed on", "relay", "What came back is no answer that HTTP allows."},
	{"link-lost", 502, "The link to the agent broke", "relay", "The link broke between request and answer, or was silent for 9 s. The request may have been run. One that has no body and can do no harm twice (GET, HEAD, OPTIONS, PUT, DELETE) was tried on another link first, if there is one."},
	{"relay-stopping", 503, "The relay was stopped", "relay", "The relay was stopped between request and answer. The request may have been run."},
	{"stalled", 504, "The API stopped taking the request", "agent", "The API read no more of the request's body."},
	{"timeout", 504, "The API did not answer in time", "relay or agent", "For work that takes minutes, have the connector published with `--async-after`, or let the API answer 202 with a `Location` to poll."},

	// Said by the agent.
	{"agent-stopping", 503, "The agent was stopped", "agent", "The agent was stopped, and its drain timeout passed, between request and answer. The request may have been run."},
	{"policy-refused", 403, "The agent's allow-list refuses the request", "agent", "No rule of the API in `agent.yaml` admits this method and path, or a condition of the rule does not hold. `sallyport-agent policy test` explains it."},
	{"ambiguous-target", 400, "The request target could be read in more than one way", "agent", "Two programs could take the path for different ones (`..`, `//`, `%2f`, `;` and the like). The detail names the rule form that admits it, if there is one."},
	{"target-too-long", 414, "The request target is too long", "agent", "Path and query together may have 32 kB."},
	{"unknown-api", 503, "The agent does not offer the API", "agent", "The API was taken out of the agent's configuration a moment ago."},
	{"no-identity", 403, "The request lacks the identity that the API needs", "agent", "The API runs requests as the caller, and the caller has not proved who it is: the token is an application's own, a guest's, or lacks the claim that names the person inside. The detail says which."},
	{"person-refused", 403, "The agent does not call this API for this person", "agent", "The API is called in the caller's own name, and the person that the token proves is not admitted: unknown, disabled or ambiguous in the directory inside, marked sensitive, in a protected group, or outside the groups and suffixes of `agent.yaml`. The agent's log says which, under the request ID."},
	{"logon-required", 401, "A Windows logon is required", "relay or agent", "The API takes the caller's own Windows user name (`DOMAIN\\user` or `user@domain`) and password, as Basic credentials."},
	{"logon-resting", 429, "Too many Windows logons of this account have failed", "agent", "So as not to lock the account in the domain, no other password is tried until `Retry-After`. One that was right within the hour still works."},
	{"logon-unjudged", 503, "Nobody inside judges the Windows logon", "relay", "The connector is published with `--auth windows`, but the agents do not offer the API with `as: caller-password`. The request was not run."},
	{"upstream-busy", 503, "Too many calls to this API are running", "agent", "All connections that the agent may have to the API are in use. The request was not run; repeat it."},
	{"body-incomplete", 400, "The request's body did not arrive whole", "agent", "The body stalled, broke off, or did not have the length that was announced."},
	{"cancelled", 503, "The exchange was cancelled", "agent", "The agent stopped the exchange before it was complete, because it is itself being stopped or the caller has gone."},
	{"upstream-auth", 502, "The API refused the agent's credential", "upstream or agent", "An account, its password or its rights need attention on the inside; where the agent could not even read the credential, it says so itself as origin. The agent's log says which, under the request ID."},
	{"upstream-unreachable", 502, "The API cannot be reached", "upstream", "The agent got no connection to the API. The request was not run."},
	{"upstream-tls", 502, "The API's certificate is not accepted", "upstream", "The TLS handshake between agent and API failed. The request was not run."},
	{"upstream-broken", 502, "The API broke off", "upstream", "The API closed the connection before its answer was there, or its answer cannot be read."},
	{"upstream-timeout", 504, "The API did not answer in time", "upstream", "The API took longer than the agent waits. For work that takes minutes, raise `limits.timeout` of the API in `agent.yaml` and have the connector published with `--async-after`, or let the API answer 202 with a `Location` to poll."},
}

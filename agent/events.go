package agent

import "sallyport/internal/eventlog"

// Events are what has an ID of its own in Windows' event log, by how the message begins. An ID is never given to anything else;
// a message may be worded anew here and where it is logged.
func Events() []eventlog.Event {
	return []eventlog.Event{
		{ID: 100, Message: "agent starts", About: "The service has read its configuration and begins. The event names the version, the identity and the files."},
		{ID: 101, Message: "agent stopped", About: "The service has drained and ends."},
		{ID: 102, Message: "the agent could not start", About: "The reason follows. Windows tries again after some seconds; mend the cause, or stop the service."},
		{ID: 103, Message: "the agent was ended", About: "It ended without having been told to. Windows starts it again."},
		{ID: 104, Message: "the program was updated", About: "By 'sallyport-agent update'; the event names the versions. If the service ran, the new one has a link."},
		{ID: 105, Message: "an update was rolled back", About: "The new version did not stay up or had no link, for the reason in the event; the one before runs again."},
		{ID: 106, Message: "an update failed", About: "'sallyport-agent update' found something wrong before it changed anything, or could not end what it began; the event says what."},

		{ID: 120, Message: "link up", About: "A link to the relay is up: calls can come."},
		{ID: 121, Message: "no link; trying again", About: "The relay cannot be reached, or the link was lost; the event says at which step and what to do. An error if the relay takes this agent for a clone. Logged when the reason changes, else every ten minutes."},
		{ID: 122, Message: "no link; an admin has to act", About: "The relay refuses the agent's credential (revoked, unknown), or the relay is not the one that was joined. The event says which; join anew, or ask the relay's admin."},
		{ID: 123, Message: "waiting for approval", About: "The agent has joined by a join string that needs approval; an admin of the relay approves it."},
		{ID: 124, Message: "another process has shown this agent's key", About: "The machine or its key was copied, and the copy was refused. Find it; if the key may be in other hands, revoke the agent and join anew."},
		{ID: 125, Message: "the relay drains the link", About: "The relay is about to stop; the agent dials another node, or the same one later."},
		{ID: 126, Message: "streams were cut off", About: "Calls did not end within the drain timeout and were ended."},
		{ID: 127, Message: "the agent could not prove itself anew", About: "The relay asked for a new proof over a link, and did not take it."},
		{ID: 128, Message: "the relay's certificate is issued by another authority", About: "If the relay's admin did not change it, something on the way opens TLS (inspection)."},
		{ID: 129, Message: "only 'ca' vouches for the relay's certificate", About: "The relay has a private certificate, or TLS is opened on the way by the issuer that is named."},

		{ID: 140, Message: "configuration in force", About: "Which APIs there are and the hash of the policy. Each change of agent.yaml that counts is one such event."},
		{ID: 141, Message: "the configuration cannot be read", About: "agent.yaml cannot be opened; what was in force before stays so."},
		{ID: 142, Message: "the configuration is wrong", About: "agent.yaml has faults, which follow as events 144; what was in force before stays so."},
		{ID: 143, Message: "relay, identity, links, state", About: "A changed setting counts from the next start: sallyport-agent service restart."},
		{ID: 144, Message: "configuration", About: "One fault (error) or doubt (warning) of the configuration, with its line."},
		{ID: 145, Message: "what the agent is told cannot be read", About: "The file by which 'pause' and 'log-level' tell the agent something is damaged; what it was told before holds."},
		{ID: 146, Message: "calls are paused", About: "An admin has paused an API, or all of them."},
		{ID: 147, Message: "calls are taken again", About: "An admin has ended a pause."},
		{ID: 148, Message: "the log level has changed", About: "By 'sallyport-agent log-level', or back."},

		{ID: 160, Message: "the agent's key was replaced", About: "'sallyport-agent key rotate' is done; the event names the new fingerprint."},
		{ID: 161, Message: "the relay has another key for this agent", About: "If nobody replaced the key on purpose, it is in other hands: revoke the agent and join anew."},
		{ID: 162, Message: "the agent's new key could not be saved", About: "The disk is full or the folder's access list is wrong; 'sallyport-agent key rotate' goes on."},
		{ID: 163, Message: "the relay has this agent's next key on record", About: "A rotation that was interrupted is completed."},
		{ID: 164, Message: "the Entra token could not be renewed", About: "The event has Entra's words; links end with the token."},

		{ID: 180, Message: "the audit record cannot be written", About: "The disk is full, or the folder's access list is wrong. Calls go on and are counted; mend it soon."},
		{ID: 181, Message: "the audit record is written again", About: "How many events are missing is in the record too."},
		{ID: 182, Message: "the audit record does not keep up", About: "The disk is too slow; calls go on and are counted."},
		{ID: 183, Message: "events are missing at the end of the audit record", About: "The agent ended before the record could be written."},
		{ID: 184, Message: "the status could not be written", About: "'sallyport-agent status' shows an old one."},
		{ID: 185, Message: "the metrics cannot be offered", About: "Another program has the address of metrics.listen; calls go on, and it is tried again every minute."},

		{ID: 200, Message: "exchange failed", About: "A call to an API went wrong: which one, at which step, and why. Sign-on faults (Kerberos, NTLM) are told here with their mend."},
		{ID: 201, Message: "a fault of the agent ended an exchange", About: "A defect of the agent; please report the event."},
		{ID: 202, Message: "removed links that lead outside of the API", About: "The API answers with links to addresses that callers cannot reach."},
		{ID: 203, Message: "the definition of an API cannot be used", About: "The description that agent.yaml names is broken; the relay keeps the one before."},
		{ID: 204, Message: "definition", About: "A doubt about an API's description."},
	}
}

package entra

import "strings"

// redact takes a secret out of a text.
func redact(text, secret string) string { return strings.ReplaceAll(text, secret, "***") }

// oneLine makes an error of several lines fit for a log.
func oneLine(text string, most int) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + " ..."
	}
	return text
}

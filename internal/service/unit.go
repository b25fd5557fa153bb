package service

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// mark begins the units and drop-ins that are ours to replace and to remove.
const mark = "# Written by '%s service install', which replaces it; change it with 'systemctl edit %[1]s'.\n"

// render gives the unit for this program and account: the text that the packages bring, with other paths.
func render(s Spec, program string) (string, error) {
	command, err := quoteAll(append([]string{program}, s.command()...))
	if err != nil {
		return "", err
	}
	set := map[string]string{"ExecStart": command, stopKey: s.stopSeconds()}
	if s.Account != s.Name {
		set["User"], set["Group"] = s.Account, "" // the account's own group
	}
	if s.Config != s.DefaultConfig {
		set["ConditionPathExists"] = strings.ReplaceAll(s.Config, "%", "%%")
	}
	var b strings.Builder
	fmt.Fprintf(&b, mark, s.Name)
	for line := range strings.Lines(s.Unit) {
		key, _, assigns := strings.Cut(line, "=")
		value, ours := set[key]
		switch {
		case !assigns || !ours:
			b.WriteString(line)
		default:
			fmt.Fprintf(&b, "%s=%s\n", key, value)
			delete(set, key)
		}
		if key == "StateDirectoryMode" && s.State != s.DefaultState {
			state, err := quoteAll([]string{s.State})
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&b, "ReadWritePaths=%s\n", state)
		}
	}
	if len(set) > 0 {
		return "", fmt.Errorf("the unit of %s lacks what install has to set: %v", s.Name, set)
	}
	return b.String(), nil
}

// command is what follows the program's name.
func (s Spec) command() []string {
	args := append([]string{}, s.Arguments...)
	if s.Config != s.DefaultConfig || s.NameConfig {
		args = append(args, "--config", s.Config)
	}
	if s.State != s.DefaultState {
		args = append(args, "--state", s.State)
	}
	return args
}

var systemdQuote = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%", "$", "$$")

// quoteAll writes words as systemd reads them.
func quoteAll(words []string) (string, error) {
	out := make([]string, len(words))
	for i, w := range words {
		if strings.ContainsAny(w, "\n\r\x00") || strings.Contains(w, "{{") { // {{ would be kardianos/service's template
			return "", errors.New("a path with a line break or {{ cannot be named in a unit")
		}
		out[i] = systemdQuote.Replace(w)
		if out[i] != w || strings.ContainsAny(w, " \t'") || w == "" {
			out[i] = `"` + out[i] + `"`
		}
	}
	return strings.Join(out, " "), nil
}

const stopKey = "TimeoutStopSec"

// stopSeconds is how long systemd lets a stop take: as long as this program's own drain, and no less than the package's
// unit has.
func (s Spec) stopSeconds() string {
	for line := range strings.Lines(s.Unit) {
		if text, ok := strings.CutPrefix(line, stopKey+"="); ok {
			least, err := strconv.Atoi(strings.TrimSpace(text))
			if wanted := int(s.Stop.Seconds()); err != nil || wanted > least {
				return strconv.Itoa(wanted)
			}
			return strings.TrimSpace(text)
		}
	}
	return ""
}

// dropIn is what the package's unit lacks for this account and drain; empty if nothing.
func dropIn(s Spec) string {
	var b strings.Builder
	if s.Account != s.Name {
		b.WriteString("User=" + s.Account + "\nGroup=\n")
	}
	if line := stopKey + "=" + s.stopSeconds() + "\n"; !strings.Contains(s.Unit, "\n"+line) {
		b.WriteString(line)
	}
	if b.Len() == 0 {
		return ""
	}
	return fmt.Sprintf(mark, s.Name) + "[Service]\n" + b.String()
}

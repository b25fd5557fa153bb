package docs

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A command is one command of a program, as its own --help shows it.
type command struct {
	line  string // "sallyport-relay gateway add"
	sub   map[string]*command
	flags map[string]bool // the long ones; true: it takes a value
}

// Commands and flags that the pages name must exist. A page that tells of one that does not is worse than none.
func TestCommandsExist(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin+"/", "../cmd/sallyport-agent", "../cmd/sallyport-relay")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, out)
	}
	programs := map[string]*command{}
	for _, name := range []string{"sallyport-agent", "sallyport-relay"} {
		programs[name] = explore(t, filepath.Join(bin, name), name)
	}
	mentions := 0
	for page, text := range pages(t) {
		for _, line := range codeLines(text) {
			for _, words := range mentioned(line) {
				if len(words) > 1 && words[1][0] == '/' {
					continue // install bin/sallyport-agent /usr/local/bin: a file, not a command
				}
				mentions++
				if fault := programs[words[0]].check(words[1:]); fault != "" {
					t.Errorf("%s: %s\n\t%s", page, fault, line)
				}
			}
		}
	}
	if mentions < 40 {
		t.Errorf("found %d commands: the test looks in the wrong place", mentions)
	}
}

var (
	subForm  = regexp.MustCompile(`^  ([a-z-]+) +\S`)
	flagForm = regexp.MustCompile(`^ +(?:-[a-zA-Z], |    )--([a-z-]+)( [a-zA-Z-]+)?(?: {2,}|$)`)
)

// explore reads the tree of commands from the program's own help.
func explore(t *testing.T, program, line string) *command {
	t.Helper()
	args := append(strings.Fields(line)[1:], "--help")
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s --help: %v\n%s", line, err, out)
	}
	c := &command{line: line, sub: map[string]*command{}, flags: map[string]bool{}}
	section := ""
	for text := range strings.Lines(string(out)) {
		text = strings.TrimRight(text, "\n")
		if text != "" && text[0] != ' ' {
			section = text
			continue
		}
		if m := subForm.FindStringSubmatch(text); m != nil && section == "Available Commands:" {
			c.sub[m[1]] = explore(t, program, line+" "+m[1])
		}
		if m := flagForm.FindStringSubmatch(text); m != nil && strings.HasSuffix(section, "lags:") {
			c.flags[m[1]] = m[2] != ""
		}
	}
	if len(c.flags) == 0 {
		t.Fatalf("%s --help shows no flags: it cannot be read\n%s", line, out)
	}
	return c
}

// check says what is wrong with the words that follow the program's name, or nothing.
func (c *command) check(words []string) string {
	var flags []string
	for i := 0; i < len(words); i++ {
		w := words[i]
		if name, ok := strings.CutPrefix(w, "--"); ok {
			name, _, given := strings.Cut(name, "=")
			flags = append(flags, name)
			if c.flags[name] && !given {
				i++
			}
			continue
		}
		if len(c.sub) == 0 {
			continue // an argument
		}
		next := c.sub[w]
		if next == nil {
			return c.line + " has no command " + w
		}
		c = next
	}
	for _, f := range flags {
		if _, ok := c.flags[f]; !ok {
			return c.line + " has no flag --" + f
		}
	}
	return ""
}

var spanForm = regexp.MustCompile("`([^`\n]+)`")

// codeLines gives what a page shows as code: fenced and indented blocks, line by line, and the spans of its prose.
func codeLines(text string) (lines []string) {
	fenced := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case fenced, strings.HasPrefix(line, "    "):
			lines = append(lines, line)
		default:
			for _, m := range spanForm.FindAllStringSubmatch(line, -1) {
				lines = append(lines, m[1])
			}
		}
	}
	return lines
}

var mentionForm = regexp.MustCompile(`(?:^|[\s/(])(sallyport-(?:agent|relay))(?:[ ]+([^|<>&;#()\n']*)|$)`)

// mentioned gives the commands in a line of code, each as words: the program's name and what follows up to what is the
// shell's or the sentence's.
func mentioned(line string) (all [][]string) {
	for _, m := range mentionForm.FindAllStringSubmatch(line, -1) {
		all = append(all, append([]string{m[1]}, strings.Fields(m[2])...))
	}
	return all
}

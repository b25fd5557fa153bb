package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"sallyport/agent"
)

// leastHash is how many letters name a version, besides sha256:.
const leastHash = 6

func (p *program) historyCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "history [HASH]", Short: "List the versions of agent.yaml that were in force, or print one", Args: exactly(0, 1, "HASH"),
		Long: `The agent keeps each agent.yaml that it was run by, the last 200, in its state directory. Without HASH they are listed, the
newest first: when each was put in force last, the hash of its rules as the record and the relay have it, and that of the file. With
HASH, of either kind or how it begins, the newest file with it is printed as it was.`,
		Example: "  sallyport-agent policy history\n  sallyport-agent policy history sha256:d3039ca0 >then.yaml",
		RunE: does(func(_ context.Context, args []string) error {
			hash := ""
			if len(args) > 0 {
				hash = args[0]
			}
			return p.history(hash, asJSON)
		}),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "for scripts: with the texts")
	return c
}

func (p *program) history(hash string, asJSON bool) error {
	c, _, wrong, err := p.toldBy()
	if err != nil {
		return err
	}
	p.warnWrong(wrong)
	dir, err := p.stateDir(c)
	if err != nil {
		return err
	}
	all, err := agent.PolicyHistory(dir)
	if err != nil {
		return err
	}
	if hash != "" {
		one, err := versionOf(all, hash)
		if err != nil {
			return err
		}
		if asJSON {
			return json.NewEncoder(p.out).Encode(one)
		}
		_, err = io.WriteString(p.out, one.Text)
		return err
	}
	if asJSON {
		return json.NewEncoder(p.out).Encode(all)
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(p.out, "no version is kept yet: the agent keeps them from its next start on")
		return err
	}
	t := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "IN FORCE LAST\tPOLICY\tFILE")
	for _, v := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\n", v.Last.Local().Format("2006-01-02 15:04:05"), v.Policy, v.File)
	}
	return t.Flush()
}

// versionOf finds the newest version by the beginning of one of its hashes.
func versionOf(all []agent.PolicyVersion, hash string) (agent.PolicyVersion, error) {
	hash = "sha256:" + strings.ToLower(strings.TrimPrefix(hash, "sha256:"))
	if len(hash) < len("sha256:")+leastHash {
		return agent.PolicyVersion{}, fmt.Errorf("%s is too short to name a version (write %d letters or more of the hash)", hash, leastHash)
	}
	for _, v := range all {
		if strings.HasPrefix(v.Policy, hash) || strings.HasPrefix(v.File, hash) {
			return v, nil
		}
	}
	return agent.PolicyVersion{}, fmt.Errorf("no version %s is kept ('sallyport-agent policy history' lists them)", hash)
}

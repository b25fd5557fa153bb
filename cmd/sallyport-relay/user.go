package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sallyport/relay/connector"
)

func (p *program) userCommand() *cobra.Command {
	return group("user", "Manage the users of a connector (auth basic)", p.userSet(), p.userList(), p.userRemove())
}

func (p *program) userSet() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use: "set GATEWAY/NAME --name USER", Short: "Make a user, or give one another password", Args: exactly("GATEWAY/NAME"),
		Long: `Makes a user of a connector that takes Basic credentials, or gives one that is there another password, at once. The
password is asked for, or read from standard input: the first line. The relay keeps its argon2id hash.`,
		Example:           "  sallyport-relay user set plant1/orders --name erp\n  sallyport-relay user set plant1/orders --name erp < password.txt",
		ValidArgsFunction: p.completeConnectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			gw, name, err := splitName(args[0])
			if err != nil {
				return err
			}
			if user == "" {
				return usagef("--name is missing: name the user, such as erp")
			}
			c, err := p.client()
			if err != nil {
				return err
			}
			password, err := p.readPassword("Password of " + user + ": ")
			if err != nil {
				return err
			}
			made, err := c.SetUser(cmd.Context(), gw, name, user, password)
			if err != nil {
				return err
			}
			return p.print(made, func(w io.Writer) { fmt.Fprintf(w, "User %s of %s has this password now.\n", made.Name, args[0]) })
		},
	}
	cmd.Flags().StringVar(&user, "name", "", "the user's `name` (required)")
	return cmd
}

// maxPasswordInput bounds what is read of a password.
const maxPasswordInput = 4096

// readPassword asks a terminal, without showing what is typed, or takes the first line of standard input.
func (p *program) readPassword(prompt string) (string, error) {
	if f, ok := p.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(p.err, prompt)
		line, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(p.err)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return string(line), nil
	}
	text, err := io.ReadAll(io.LimitReader(p.in, maxPasswordInput))
	if err != nil {
		return "", fmt.Errorf("read the password from standard input: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSuffix(line, "\r"), nil
}

func (p *program) userList() *cobra.Command {
	return &cobra.Command{
		Use: "list GATEWAY/NAME", Short: "List the users of a connector", Args: exactly("GATEWAY/NAME"),
		ValidArgsFunction: p.completeConnectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			gw, name, err := splitName(args[0])
			if err != nil {
				return err
			}
			c, err := p.client()
			if err != nil {
				return err
			}
			users, err := c.Users(cmd.Context(), gw, name)
			if err != nil {
				return err
			}
			return p.print(users, func(w io.Writer) { printUsers(w, args[0], users) })
		},
	}
}

func printUsers(w io.Writer, path string, users []connector.UserInfo) {
	if len(users) == 0 {
		fmt.Fprintf(w, "There are no users yet. Make one: sallyport-relay user set %s --name USER\n", path)
		return
	}
	var rows []string
	for _, u := range users {
		rows = append(rows, u.Name+"\t"+day(u.Created))
	}
	table(w, "USER\tPASSWORD SET", rows)
}

func (p *program) userRemove() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use: "remove GATEWAY/NAME --name USER", Short: "Take a user away", Args: exactly("GATEWAY/NAME"),
		Example:           "  sallyport-relay user remove plant1/orders --name erp",
		ValidArgsFunction: p.completeConnectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			gw, name, err := splitName(args[0])
			if err != nil {
				return err
			}
			if user == "" {
				return usagef("--name is missing; 'sallyport-relay user list %s' shows the names", args[0])
			}
			c, err := p.client()
			if err != nil {
				return err
			}
			if err := c.RemoveUser(cmd.Context(), gw, name, user); err != nil {
				return err
			}
			return p.print(map[string]string{"removed": user}, func(w io.Writer) { fmt.Fprintln(w, "Removed user", user, "of", args[0]) })
		},
	}
	cmd.Flags().StringVar(&user, "name", "", "the user's `name` (required)")
	return cmd
}

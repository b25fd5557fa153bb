package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/hidden"
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
			if user == "" {
				return usagef("--name is missing: name the user, such as erp")
			}
			c, gw, name, err := p.connectorClient(args[0])
			if err != nil {
				return err
			}
			password, err := p.readPassword(cmd.Context(), "Password of "+user+": ")
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

// readPassword asks a terminal, without showing what is typed, or takes the first line of standard input.
func (p *program) readPassword(ctx context.Context, prompt string) (string, error) {
	text, err := hidden.Read(ctx, p.in, p.err, prompt)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimSuffix(line, "\r"), nil
}

func (p *program) userList() *cobra.Command {
	return &cobra.Command{
		Use: "list GATEWAY/NAME", Short: "List the users of a connector", Args: exactly("GATEWAY/NAME"),
		ValidArgsFunction: p.completeConnectors,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, gw, name, err := p.connectorClient(args[0])
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
			if user == "" {
				return usagef("--name is missing; 'sallyport-relay user list %s' shows the names", args[0])
			}
			c, gw, name, err := p.connectorClient(args[0])
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

// Command sallyport-agent stands for the agent in the tests of agent/update: it says its version, and as a service writes what
// the agent would say of itself into the file LIFE. Which version it is, and what is wrong with it, is told by what a test
// appends to the program: "\nAGENT version fault".
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		panic(err)
	}
	words := strings.Fields(string(program[bytes.LastIndex(program, []byte("\nAGENT "))+len("\nAGENT "):]))
	version, fault := words[0], words[1]
	switch {
	case fault == "mute":
		panic("it does not run")
	case os.Args[1] == "version" && fault == "liar":
		version = "6.6.6"
		fallthrough
	case os.Args[1] == "version":
		fmt.Printf("{\"version\":%q}\n", version)
		return
	case fault == "crash":
		panic("it does not stay up")
	}
	text, err := json.Marshal(map[string]any{
		"Running": true, "Started": time.Now(), "Version": version, "Linked": fault != "unlinked", "Reason": "the relay refused",
	})
	if err == nil {
		err = os.WriteFile(os.Getenv("LIFE")+".tmp", text, 0o600)
	}
	if err == nil {
		err = os.Rename(os.Getenv("LIFE")+".tmp", os.Getenv("LIFE"))
	}
	if err != nil {
		panic(err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	select {
	case <-stop:
	case <-time.After(5 * time.Minute): // a test that was killed leaves nothing behind for good
	}
}

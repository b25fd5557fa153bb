//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startLimit is how long a program may take to say that it is ready.
const startLimit = 20 * time.Second

// A process is a program that runs for the length of the benchmark.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser // a role ends when it is closed
	done  chan struct{}  // closed when the program has ended
}

// start starts a program whose output goes to a file of its name in dir. It ends with this process, whatever ends that.
func start(dir, name string, stdout io.Writer, argv ...string) (*process, error) {
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() // the program has its own
	p := &process{name: name, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	if stdout == nil {
		stdout = log
	}
	p.cmd.Stdout, p.cmd.Stderr = stdout, log
	// A group of its own: on Ctrl-C it is this process that ends it, when nothing is measured any more.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { // stop waits for it
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	return p, nil
}

// startRole starts this program again in a role, and gives what the role says when it is ready.
func startRole(dir string, name string, r role) (*process, ready, error) {
	var addresses ready
	self, err := os.Executable()
	if err != nil {
		return nil, addresses, err
	}
	from, to, err := os.Pipe()
	if err != nil {
		return nil, addresses, err
	}
	defer from.Close()
	p, err := start(dir, name, to, self, roleArgument)
	to.Close()
	if err != nil {
		return nil, addresses, err
	}
	_ = from.SetReadDeadline(time.Now().Add(startLimit))
	if err := json.NewEncoder(p.stdin).Encode(r); err != nil {
		p.stop()
		return nil, addresses, fmt.Errorf("start %s: %w", name, err)
	}
	line, err := bufio.NewReader(from).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &addresses)
	}
	if err != nil {
		p.stop()
		return nil, addresses, fmt.Errorf("start %s: it did not say that it is ready: %w\n%s", name, err, tail(dir, name))
	}
	return p, addresses, nil
}

// tail is the end of what a program has said.
func tail(dir, name string) string {
	text, _ := os.ReadFile(filepath.Join(dir, name+".log"))
	return string(text[max(0, len(text)-2000):])
}

// stop ends the program and waits for that.
func (p *process) stop() {
	p.stdin.Close()
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ticks is USER_HZ, in which /proc counts; it is the same on every architecture that Go has.
const ticks = 100

// cpu is the processor time, user and system, that the program has had so far.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the processor time of %s: %w", p.name, err)
	}
	// The second field is the name, in parentheses; utime and stime are the 14th and the 15th.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("read the processor time of %s: %q", p.name, text)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * time.Second / ticks, errors.Join(err1, err2)
}

// peak is the most memory that the program has had resident, in kB.
func (p *process) peak() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the peak memory of %s: %w", p.name, err)
	}
	_, rest, ok := strings.Cut(string(text), "VmHWM:")
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		return 0, fmt.Errorf("read the peak memory of %s: no VmHWM", p.name)
	}
	return strconv.ParseInt(fields[0], 10, 64)
}

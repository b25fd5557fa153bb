// Package update puts another version of the program into the place of the one that runs as the service, and the old one back
// if the new one does not link. Only an admin starts it, by 'sallyport-agent update', or a schedule that an admin has set; the
// running agent does not import it, and nothing that the relay sends leads here.
//
// It decides by a signature (release.go), takes the program out of its package (program.go), on Windows asks for its publisher
// (publisher.go), puts it in place so that a complete program lies there at every moment (place.go), and keeps a journal beside it (journal.go), by which the next run
// ends what one that was killed has begun. It does not know services and links: its caller hands them in.
//
//	r, err := update.ReadRelease(sums, signatures, signers)
//	p, err := r.Of(data)
//	program, err := p.Program(data, runtime.GOOS, runtime.GOARCH)
//	u := update.Updater{Program: "/usr/local/bin/sallyport-agent", Service: ..., Life: ...}
//	err = u.Settle(ctx)                                      // what an update that was cut off has left
//	err = u.Update(ctx, "1.0.0", p.Version, program)         // a *RolledBack: the old one is back
package update

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"time"
)

const (
	// LinkWithin is how long a new program may take to bring a link up.
	LinkWithin = time.Minute
	// pollEvery is how often it is asked meanwhile.
	pollEvery = 250 * time.Millisecond
	// answerWithin bounds how long a new program may take to say its version.
	answerWithin = 30 * time.Second
	// maxAnswer bounds what it says, in bytes.
	maxAnswer = 64 << 10
	// backWithin bounds all of a rollback beside the wait for a link: the restart drains.
	backWithin = 10 * time.Minute
)

// A Service is the agent as a service of the machine.
type Service interface {
	// Running says whether it runs, or is meant to and is being started.
	Running(ctx context.Context) (bool, error)
	// Restart drains it, stops it and starts it; an error says that it does not stay up.
	Restart(ctx context.Context) error
}

// Life is what the running agent says of itself.
type Life struct {
	Running bool
	Started time.Time
	Version string
	Linked  bool
	Reason  string // why there is no link
}

// An Updater updates one installation. The same installation has one at a time: whoever makes it holds a lock.
type Updater struct {
	// Program is the path of the program that the service runs; only admins may write its folder.
	Program string
	Service Service
	Life    func() (Life, error)
	// WithoutLink has it be enough that a new program runs.
	WithoutLink bool
	// AnyPublisher has it ask nothing about the publisher of a program, which on Windows must be the present one's.
	AnyPublisher bool
	// Within is how long a link is waited for; zero: LinkWithin.
	Within time.Duration
	// Say is told of each step before it is done; nil: nobody.
	Say func(step string)

	sealOf func(path string) (seal, error) // nil: this system's
}

// RolledBack says that a new program was not kept. Now is nil if the old one is back and links, or what is wrong with it.
type RolledBack struct {
	From, To string
	Cause    error
	Now      error
}

func (r *RolledBack) Error() string {
	text := fmt.Sprintf("version %s was not kept: %v. ", r.To, r.Cause)
	if r.Now == nil {
		return text + fmt.Sprintf("Version %s is back and has a link", r.From)
	}
	return text + fmt.Sprintf("Version %s is back in its place, but: %v", r.From, r.Now)
}

func (r *RolledBack) Unwrap() error { return r.Cause }

// ErrNoLink says that the agent has no link before anything was changed.
var ErrNoLink = errors.New("the agent has no link now, so nobody could tell whether a new version works")

// errInterrupted is why an update was given up that may have been a good one.
var errInterrupted = errors.New("interrupted")

func (u *Updater) say(form string, args ...any) {
	if u.Say != nil {
		u.Say(fmt.Sprintf(form, args...))
	}
}

// Ready says why the agent could not be updated now; it changes nothing.
func (u *Updater) Ready(ctx context.Context) (running bool, err error) {
	running, err = u.Service.Running(ctx)
	if err != nil || !running || u.WithoutLink {
		return running, err
	}
	life, err := u.Life()
	if err != nil {
		return true, fmt.Errorf("ask the agent for its links: %w", err)
	}
	if !life.Linked {
		return true, fmt.Errorf("%w: %s", ErrNoLink, life.why())
	}
	return true, nil
}

func (l Life) why() string {
	switch {
	case !l.Running:
		return "it does not run"
	case l.Reason != "":
		return l.Reason
	}
	return "none is up"
}

// Update puts a program of version to into the place of one of version from, restarts the service, and puts the old one back
// unless the new one links in time. Nothing is changed before the new program has said its version here. A service that does
// not run is not started.
func (u *Updater) Update(ctx context.Context, from, to string, program []byte) error {
	running, err := u.Ready(ctx)
	if err != nil {
		return err
	}
	return u.replace(ctx, running, from, to, program, u.admitted)
}

// replace asks admitted about the program that lies beside the present one, before that runs for the first time.
func (u *Updater) replace(ctx context.Context, running bool, from, to string, program []byte, admitted func(path string) error) error {
	at := place{u.Program}
	u.say("write %s", at.staged())
	if err := at.stage(program); err != nil {
		return fmt.Errorf("write the new program: %w", err)
	}
	if err := admitted(at.staged()); err != nil {
		return errors.Join(err, at.unstage())
	}
	if err := u.answers(ctx, at.staged(), to); err != nil {
		return errors.Join(err, at.unstage())
	}
	j := journal{From: from, To: to, Running: running, Began: time.Now().UTC()}
	u.say("note in %s what is about to be done", at.journal())
	if err := j.begin(at); err != nil {
		return errors.Join(err, at.unstage())
	}
	u.say("keep version %s as %s and put version %s into its place", from, at.old(), to)
	if err := at.swap(); err != nil {
		return errors.Join(fmt.Errorf("put the new program into its place: %w", err), at.mend(), at.unstage(), j.remove(at))
	}
	return u.prove(ctx, j)
}

// answers runs the staged program, which is signed, for the first time here: it has to start, and be what its name says.
func (u *Updater) answers(ctx context.Context, path, want string) error {
	u.say("ask the new program for its version")
	said, err := Version(ctx, path)
	if err == nil && said != want {
		err = fmt.Errorf("the new program says that it is version %q, its package is named for %s", said, want)
	}
	return err
}

// Version asks a program for its version.
func Version(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var out bounded
	c := exec.CommandContext(ctx, path, "version", "--json")
	c.Stdout, c.Stderr, c.WaitDelay = &out, &out, time.Second
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s does not run on this machine: %w: %s", path, err, bytes.TrimSpace(out.Bytes()))
	}
	var said struct{ Version string }
	if err := json.Unmarshal(out.Bytes(), &said); err != nil {
		return "", fmt.Errorf("%s does not say its version: %w", path, err)
	}
	return said.Version, nil
}

// bounded keeps the beginning of what is written.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	_, _ = b.Buffer.Write(p[:min(len(p), max(0, maxAnswer-b.Len()))]) // never fails
	return len(p), nil
}

// prove restarts the service with the new program, which is in its place, and waits for a link; without one the old program
// comes back.
func (u *Updater) prove(ctx context.Context, j journal) error {
	if j.Running {
		if err := u.restarted(ctx, j.To); err != nil {
			return u.rollBack(ctx, j, err)
		}
	}
	u.say("done: version %s", j.To)
	return j.remove(place{u.Program})
}

// Refused says when this program was rolled back or left by Back, if it was the last one that was; zero if not.
func (u *Updater) Refused(program []byte) time.Time {
	j, err := readJSON(place{u.Program}.refused())
	sum := sha256.Sum256(program)
	if err != nil || j == nil || j.New != hex.EncodeToString(sum[:]) {
		return time.Time{} // what cannot be read refuses nothing
	}
	return j.Began
}

// restarted restarts the service and waits until a process of the version that was not there before has a link.
func (u *Updater) restarted(ctx context.Context, version string) error {
	before, _ := u.Life() // none: any process is another
	u.say("drain the service and start it with version %s", version)
	if err := u.Service.Restart(ctx); err != nil {
		return fmt.Errorf("start it: %w", err)
	}
	within := u.Within
	if within == 0 {
		within = LinkWithin
	}
	u.say("wait up to %s for a link", within)
	return u.await(ctx, within, version, before.Started)
}

func (u *Updater) await(ctx context.Context, within time.Duration, version string, before time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		life, err := u.Life()
		fresh := err == nil && life.Running && !life.Started.Equal(before)
		switch {
		case fresh && life.Version == version && (life.Linked || u.WithoutLink):
			return nil
		case err == nil && fresh && life.Version != version:
			err = fmt.Errorf("version %s runs", life.Version)
		case err == nil && !fresh:
			err = errors.New("it has not said that it runs")
		case err == nil:
			err = errors.New(life.why())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("no link within %s: %w", within, err)
			}
			return fmt.Errorf("%w: %w", errInterrupted, context.Cause(ctx))
		}
	}
}

// rollBack puts the old program back and restarts the service with it. What has interrupted the update does not interrupt
// this.
func (u *Updater) rollBack(ctx context.Context, j journal, cause error) error {
	within := u.Within
	if within == 0 {
		within = LinkWithin
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), backWithin+within)
	defer cancel()
	at := place{u.Program}
	r := &RolledBack{From: j.From, To: j.To, Cause: cause}
	u.say("put version %s back, because: %v", j.From, cause)
	if !errors.Is(cause, errInterrupted) {
		if err := j.refuse(at); err != nil {
			u.say("it could not be noted that version %s was not kept: %v", j.To, err)
		}
	}
	if err := at.back(); err != nil {
		r.Now = fmt.Errorf("it could not be put back, and %s is it: %w", at.old(), err)
		return r
	}
	if j.Running {
		if r.Now = u.restarted(ctx, j.From); r.Now != nil {
			return r // the journal stays, so that the next run looks again
		}
	}
	at.sweep()
	r.Now = j.remove(at)
	return r
}

// Unfinished says which update of a program was killed, or is under way, and when it began; ok is false if there is none.
func Unfinished(program string) (from, to string, began time.Time, ok bool) {
	j, err := readJSON(place{program}.journal())
	if err != nil || j == nil {
		return "", "", time.Time{}, false // one that is torn was none
	}
	return j.From, j.To, j.Began, true
}

// Settle ends what an update that was killed has begun: a new program that links is kept, one that does not is rolled back.
// It tells by ended that there was something.
func (u *Updater) Settle(ctx context.Context) (ended bool, err error) {
	at := place{u.Program}
	if err := at.mend(); err != nil {
		return false, err
	}
	j, err := readJournal(at)
	if err != nil {
		return false, err
	}
	if j == nil {
		return false, at.unstage()
	}
	u.say("an update from %s to %s, begun %s, was cut off; it is brought to its end", j.From, j.To, j.Began.Local().Format(time.DateTime))
	sum, err := sumOf(u.Program)
	if err != nil {
		return true, err
	}
	life, lifeErr := u.Life()
	switch {
	case sum == j.New && lifeErr == nil && life.Running && life.Version == j.To && life.Linked:
		u.say("version %s runs and has a link", j.To)
	case sum == j.New:
		return true, u.prove(ctx, *j)
	case sum == j.Old && j.Running && (lifeErr != nil || life.Version != j.From || !life.Running):
		// It was put back, and the service may run the other one still.
		if err := u.restarted(ctx, j.From); err != nil {
			return true, fmt.Errorf("version %s is in its place, but: %w", j.From, err)
		}
	}
	at.sweep()
	return true, errors.Join(at.unstage(), j.remove(at))
}

// Back puts the program back that the last update has replaced, as an update to it: if that one does not link, the present one
// stays. It gives the version. That there is no link now does not hinder it, nor another publisher: it ran here. The version
// that it leaves is Refused from then on.
func (u *Updater) Back(ctx context.Context, from string) (to string, err error) {
	at := place{u.Program}
	running, err := u.Service.Running(ctx)
	if err != nil {
		return "", err
	}
	program, err := at.readOld()
	if err != nil {
		return "", fmt.Errorf("there is no version to go back to: %w", err)
	}
	if to, err = Version(ctx, at.old()); err != nil {
		return "", err
	}
	if err := u.replace(ctx, running, from, to, program, func(string) error { return nil }); err != nil {
		return to, err
	}
	left := journal{From: to, To: from, Began: time.Now().UTC()}
	if left.New, err = sumOf(at.old()); err == nil {
		err = left.refuse(at)
	}
	return to, err
}

package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"

	"sallyport/internal/access"
)

// An errand is a command line that the service's own process carries out for an administrator: on Windows nothing else has the
// account, the environment and the network that the service has, and nobody else needs its password. A service that runs is
// told by a control code of its own; one that is stopped is started with an argument, does that alone, and ends. The order and
// what came of it lie in a folder of the state folder, which the administrator makes and takes away.
const (
	errandFolder  = "errand"
	errandControl = svc.Cmd(128) // the first that Windows leaves to services
	errandStart   = "errand"
	// errandAgain has a service that had failed end as one that fails, so that Windows goes on starting it.
	errandAgain = "again"

	orderFile  = "order.json"
	takenFile  = "taken"
	resultFile = "result.json"
	// errandFileLimit bounds an order and a result in bytes.
	errandFileLimit = 4 << 20
	// errandWords is how long the service may take to begin, errandLimit to end: what it does has bounds of its own.
	errandWords = 10 * time.Second
	errandLimit = 2 * time.Minute
)

type order struct {
	Args []string `json:"args"`
}

type result struct {
	Code       int    `json:"code"`
	Out        []byte `json:"out"`
	Complaints []byte `json:"complaints"`
}

// A Doer carries out a command line and gives its exit code.
type Doer func(ctx context.Context, args []string, out, complaints io.Writer) int

// RunAs has the service carry out a command line in its own process, with its account and all that comes of it. It gives the
// exit code. It needs an administrator's rights.
func RunAs(ctx context.Context, s Spec, args []string, out, complaints io.Writer) (code int, err error) {
	if err := ready(s, false); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, errandLimit)
	defer cancel()
	err = at(s, windows.SERVICE_START|windows.SERVICE_USER_DEFINED_CONTROL, func(r *registered) error {
		dir, err := makeErrand(s, r.account, args)
		if err != nil {
			return err
		}
		defer removeErrand(dir)
		if err := r.send(ctx, s); err != nil {
			return err
		}
		got, err := r.fetch(ctx, s, dir)
		if err != nil {
			return err
		}
		code = got.Code
		_, err1 := out.Write(got.Out)
		_, err2 := complaints.Write(got.Complaints)
		return errors.Join(err1, err2)
	})
	return code, err
}

// makeErrand makes the folder for the service, whatever the state folder's own access list is, and puts the order in.
func makeErrand(s Spec, account string, args []string) (dir string, err error) {
	dir = filepath.Join(s.State, errandFolder)
	if info, err := os.Lstat(dir); err == nil && time.Since(info.ModTime()) > errandLimit { // somebody's that was killed
		if err := removeErrand(dir); err != nil {
			return "", err
		}
	}
	own, err := access.ServiceSID(s.Name)
	if err != nil {
		return "", err
	}
	who := fmt.Sprintf("(A;OICI;0x1301bf;;;%s)", own)
	if sid, err := access.AccountSID(account); err == nil { // else it has NT SERVICE\ and its name in its token
		who += fmt.Sprintf("(A;OICI;0x1301bf;;;%s)", sid)
	}
	sd, err := windows.SecurityDescriptorFromString("O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)" + who)
	if err != nil {
		return "", err
	}
	if err := makeFolder(dir, sd); errors.Is(err, fs.ErrExist) {
		return "", errors.New("the service is asked for something else already; try again in two minutes")
	} else if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no folder %s; '%s service install' makes it", s.State, s.Name)
	} else if err != nil {
		return "", err
	}
	data, err := json.Marshal(order{args})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, orderFile), data, 0o600)
	}
	if err != nil {
		return "", errors.Join(err, removeErrand(dir))
	}
	return dir, nil
}

// removeErrand removes the folder and its files. One that holds a folder is none of ours, and stays.
func removeErrand(dir string) error {
	list, err := os.ReadDir(dir)
	for _, one := range list {
		err = errors.Join(err, os.Remove(filepath.Join(dir, one.Name())))
	}
	return errors.Join(err, os.Remove(dir))
}

func makeFolder(path string, sd *windows.SECURITY_DESCRIPTOR) error {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return err
	}
	sa := windows.SecurityAttributes{Length: uint32(unsafe.Sizeof(windows.SecurityAttributes{})), SecurityDescriptor: sd}
	if err := windows.CreateDirectory(name, &sa); err != nil {
		return &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	return nil
}

// send lets the service know that there is an order.
func (r *registered) send(ctx context.Context, s Spec) error {
	now, err := r.await(ctx, errandLimit, func(state svc.State) bool { return state == svc.Running || state == svc.Stopped })
	if err != nil {
		return err
	}
	if now.State == svc.Running {
		_, err = r.Control(errandControl)
		return explain(err)
	}
	args := []string{errandStart}
	if code := windows.Errno(now.Win32ExitCode); code != 0 && code != windows.ERROR_SERVICE_NEVER_STARTED {
		args = append(args, errandAgain)
	}
	err = r.Start(args...)
	if errors.Is(err, windows.ERROR_SERVICE_LOGON_FAILED) {
		err = logonFailure(ctx, s)
	}
	return explain(err)
}

// fetch waits for what came of the order.
func (r *registered) fetch(ctx context.Context, s Spec, dir string) (*result, error) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	begun := time.Now()
	for {
		now, err := r.Query() // before the look for a result, which is there before the service ends
		if err != nil {
			return nil, explain(err)
		}
		var got result
		switch err := readJSON(filepath.Join(dir, resultFile), &got); {
		case err == nil:
			return &got, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		case now.State == svc.Stopped:
			return nil, fmt.Errorf("the service ended without having said anything: %s", ended(ctx, s, now))
		}
		if _, err := os.Stat(filepath.Join(dir, takenFile)); err != nil && time.Since(begun) > errandWords {
			return nil, fmt.Errorf("the service did not begin with it within %s: its program may be older than this one ('%s service restart'), or busy with another order",
				errandWords, s.Name)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the service: %w", ctx.Err())
		}
	}
}

// ServeErrand carries out the order that lies in the state folder, in the service's process. Only what an administrator or the
// service itself put there counts.
func ServeErrand(ctx context.Context, s Spec, do Doer) error {
	dir := filepath.Join(s.State, errandFolder)
	if err := checkErrand(dir); err != nil {
		return err
	}
	var o order
	if err := readJSON(filepath.Join(dir, orderFile), &o); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, takenFile), nil, 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, errandLimit)
	defer cancel()
	var out, complaints bytes.Buffer
	code := do(ctx, o.Args, &out, &complaints)
	data, err := json.Marshal(result{code, out.Bytes(), complaints.Bytes()})
	if err != nil {
		return err
	}
	whole := filepath.Join(dir, resultFile)
	if err := os.WriteFile(whole+".part", data, 0o600); err != nil {
		return err
	}
	return os.Rename(whole+".part", whole)
}

func checkErrand(dir string) error {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return fmt.Errorf("find out the own account: %w", err)
	}
	list := access.List{user.User.Sid}
	for _, known := range []windows.WELL_KNOWN_SID_TYPE{windows.WinLocalSystemSid, windows.WinBuiltinAdministratorsSid} {
		sid, err := windows.CreateWellKnownSid(known)
		if err != nil {
			return err
		}
		list = append(list, sid)
	}
	fault, err := list.Judge(dir, 0, 0)
	if err == nil && fault != nil {
		err = fmt.Errorf("%s belongs to %s, who is no administrator", dir, fault)
	}
	return err
}

func readJSON(path string, v any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, errandFileLimit+1))
	switch {
	case err != nil:
		return err
	case len(data) > errandFileLimit:
		return fmt.Errorf("%s is larger than %d bytes", path, errandFileLimit)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

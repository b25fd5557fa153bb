package proxy

import (
	"errors"
	"fmt"
	"net/url"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// The functions and constants of winhttp.h that are used. The library is loaded from the system's directory alone.
type winHTTP struct {
	open, close, timeouts, userConfig, machineConfig, forURL, free *windows.LazyProc
}

const (
	accessNoProxy    = 1 // WINHTTP_ACCESS_TYPE_NO_PROXY
	accessNamedProxy = 3 // WINHTTP_ACCESS_TYPE_NAMED_PROXY

	autoDetect    = 1 // WINHTTP_AUTOPROXY_AUTO_DETECT
	autoConfigURL = 2 // WINHTTP_AUTOPROXY_CONFIG_URL
	byDHCP        = 1 // WINHTTP_AUTO_DETECT_TYPE_DHCP
	byDNS         = 2 // WINHTTP_AUTO_DETECT_TYPE_DNS_A

	errLoginFailure  = syscall.Errno(12015) // ERROR_WINHTTP_LOGIN_FAILURE: the PAC file's server wants a sign-on
	errBadScript     = syscall.Errno(12166) // ERROR_WINHTTP_BAD_AUTO_PROXY_SCRIPT
	errNoScript      = syscall.Errno(12167) // ERROR_WINHTTP_UNABLE_TO_DOWNLOAD_SCRIPT
	errNotDetected   = syscall.Errno(12180) // ERROR_WINHTTP_AUTODETECTION_FAILED
	askTimeoutMillis = 8000                 // each phase of getting a PAC file: a dial has 50 s in all
)

// userConfig is WINHTTP_CURRENT_USER_IE_PROXY_CONFIG.
type userConfig struct {
	AutoDetect    int32
	AutoConfigURL *uint16
	Proxy         *uint16
	Bypass        *uint16
}

// autoOptions is WINHTTP_AUTOPROXY_OPTIONS.
type autoOptions struct {
	Flags         uint32
	DetectFlags   uint32
	AutoConfigURL *uint16
	reserved      uintptr
	reserved2     uint32
	AutoLogon     int32
}

// proxyInfo is WINHTTP_PROXY_INFO.
type proxyInfo struct {
	AccessType uint32
	Proxy      *uint16
	Bypass     *uint16
}

// System is what Windows says: the settings of the account that the process runs as (a PAC file, WPAD where it is switched
// on, a proxy by name), else those of the machine ("netsh winhttp set proxy").
func System() Func {
	dll := windows.NewLazySystemDLL("winhttp.dll")
	w := &winHTTP{
		open: dll.NewProc("WinHttpOpen"), close: dll.NewProc("WinHttpCloseHandle"), timeouts: dll.NewProc("WinHttpSetTimeouts"),
		userConfig:    dll.NewProc("WinHttpGetIEProxyConfigForCurrentUser"),
		machineConfig: dll.NewProc("WinHttpGetDefaultProxyConfiguration"), forURL: dll.NewProc("WinHttpGetProxyForUrl"),
		free: windows.NewLazySystemDLL("kernel32.dll").NewProc("GlobalFree"),
	}
	var mu sync.Mutex // one question at a time: links come up together and ask the same
	return func(u *url.URL) (*url.URL, error) {
		mu.Lock()
		defer mu.Unlock()
		if err := dll.Load(); err != nil {
			return nil, fmt.Errorf("ask Windows for the proxy: %w", err)
		}
		return w.find(u)
	}
}

func (w *winHTTP) find(u *url.URL) (*url.URL, error) {
	user, err := w.user()
	if err == nil {
		if user.script != "" || user.detect {
			via, found, err := w.automatic(u, user)
			if err != nil || found {
				return via, err
			}
		}
		if user.proxy != "" {
			return named(user.proxy, user.bypass, u), nil
		}
	}
	var info proxyInfo
	if ok, _, err := w.machineConfig.Call(uintptr(unsafe.Pointer(&info))); ok == 0 {
		return nil, fmt.Errorf("ask Windows for the machine's proxy (netsh winhttp show proxy): %w", err)
	}
	list, bypass := w.take(info.Proxy), w.take(info.Bypass)
	if info.AccessType != accessNamedProxy {
		return nil, nil
	}
	return named(list, bypass, u), nil
}

func named(list, bypass string, u *url.URL) *url.URL {
	if bypassed(bypass, u) {
		return nil
	}
	return fromList(list, u.Scheme)
}

// settings are a user's, as Go strings.
type settings struct {
	detect                bool
	script, proxy, bypass string
}

func (w *winHTTP) user() (settings, error) {
	var c userConfig
	if ok, _, err := w.userConfig.Call(uintptr(unsafe.Pointer(&c))); ok == 0 {
		return settings{}, err // an account without a profile has none
	}
	return settings{detect: c.AutoDetect != 0, script: w.take(c.AutoConfigURL), proxy: w.take(c.Proxy), bypass: w.take(c.Bypass)}, nil
}

// automatic asks the PAC file that the settings or WPAD name; found is false where WPAD finds none.
func (w *winHTTP) automatic(u *url.URL, s settings) (via *url.URL, found bool, err error) {
	agent, err := windows.UTF16PtrFromString("sallyport-agent")
	if err != nil {
		return nil, false, err
	}
	session, _, err := w.open.Call(uintptr(unsafe.Pointer(agent)), accessNoProxy, 0, 0, 0)
	if session == 0 {
		return nil, false, fmt.Errorf("ask Windows for the proxy: %w", err)
	}
	defer func() { _, _, _ = w.close.Call(session) }()
	const t = askTimeoutMillis
	if ok, _, err := w.timeouts.Call(session, t, t, t, t); ok == 0 {
		return nil, false, fmt.Errorf("ask Windows for the proxy: %w", err)
	}
	var o autoOptions
	if s.detect {
		o.Flags, o.DetectFlags = autoDetect, byDHCP|byDNS
	}
	if s.script != "" {
		if o.AutoConfigURL, err = windows.UTF16PtrFromString(s.script); err != nil {
			return nil, false, err
		}
		o.Flags |= autoConfigURL
	}
	info, err := w.ask(session, u, o)
	if errors.Is(err, errNotDetected) && s.script == "" {
		return nil, false, nil // WPAD is switched on by default, and most networks have none
	}
	if err != nil {
		return nil, false, explain(s, err)
	}
	list, bypass := w.take(info.Proxy), w.take(info.Bypass)
	if info.AccessType != accessNamedProxy {
		return nil, true, nil // the script says DIRECT
	}
	return named(list, bypass, u), true, nil
}

// ask calls WinHttpGetProxyForUrl, at first without showing the account to the PAC file's server.
func (w *winHTTP) ask(session uintptr, u *url.URL, o autoOptions) (proxyInfo, error) {
	var info proxyInfo
	target, err := windows.UTF16PtrFromString(u.Scheme + "://" + u.Host + "/")
	if err != nil {
		return info, err
	}
	for _, logon := range []int32{0, 1} {
		o.AutoLogon = logon
		ok, _, callErr := w.forURL.Call(session, uintptr(unsafe.Pointer(target)), uintptr(unsafe.Pointer(&o)), uintptr(unsafe.Pointer(&info)))
		if ok != 0 {
			return info, nil
		}
		if err = callErr; !errors.Is(err, errLoginFailure) {
			break
		}
	}
	return info, err
}

// explain puts WinHTTP's numbers into words. The PAC file's address is shown: an admin has to look at it.
func explain(s settings, err error) error {
	script := "the PAC file that WPAD found"
	if s.script != "" {
		script = "the PAC file " + Hide(s.script)
	}
	switch {
	case errors.Is(err, errNoScript):
		return fmt.Errorf("%s could not be had: can this machine reach it, as the account that the agent runs as? (%w)", script, err)
	case errors.Is(err, errBadScript):
		return fmt.Errorf("%s is broken: have its JavaScript looked at (%w)", script, err)
	case errors.Is(err, errLoginFailure):
		return fmt.Errorf("%s lies on a server that wants a sign-on and does not take this account's (%w)", script, err)
	}
	return fmt.Errorf("ask %s: %w", script, err)
}

// take makes a string of one that WinHTTP has allocated, and frees that.
func (w *winHTTP) take(p *uint16) string {
	if p == nil {
		return ""
	}
	s := windows.UTF16PtrToString(p)
	_, _, _ = w.free.Call(uintptr(unsafe.Pointer(p)))
	return s
}

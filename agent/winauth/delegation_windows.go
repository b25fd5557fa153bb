package winauth

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"

	"sallyport/agent/winauth/kerberos"
)

// systemKeytab is not there on Windows.
const systemKeytab = ""

// systemConf is this machine's Kerberos configuration: the file of MIT's programs if there is one, else the domain of which the
// machine is a member, whose domain controllers are found by DNS.
func systemConf() (*kerberos.Conf, error) {
	path := filepath.Join(os.Getenv("ProgramData"), "MIT", "Kerberos5", "krb5.ini")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return kerberos.LoadConf(path)
	}
	domain := machineDomain()
	if domain == "" || strings.ContainsAny(domain, " \t\r\n#;={}[]") {
		return kerberos.ParseConf(nil)
	}
	return kerberos.ParseConf([]byte("[libdefaults]\ndefault_realm = " + strings.ToUpper(domain) + "\n"))
}

// machineDomain is the machine's primary DNS suffix, which is its domain's name unless an admin has set another; "" for none.
func machineDomain() string {
	buf := make([]uint16, 256)
	n := uint32(len(buf))
	if err := windows.GetComputerNameEx(windows.ComputerNameDnsDomain, &buf[0], &n); err != nil {
		return ""
	}
	return windows.UTF16ToString(buf[:n])
}

// joined is the NetBIOS name of the domain of which the machine is a member; "" for none.
func joined() string {
	var name *uint16
	var kind uint32
	if err := windows.NetGetJoinInformation(nil, &name, &kind); err != nil {
		return ""
	}
	defer func() { _ = windows.NetApiBufferFree((*byte)(unsafe.Pointer(name))) }()
	if kind != windows.NetSetupDomainName {
		return ""
	}
	return windows.UTF16PtrToString(name)
}

// newActor takes the account with a keytab or a password if one is named, else the account that the process runs as.
func newActor(o Options, c DelegationConfig) (actor, error) {
	if c.Account.User != "" || c.Service != (ServiceSource{}) {
		return newTransition(o, c)
	}
	return newLSA(o, c.Domains)
}

package service

import (
	"errors"
	"fmt"

	"golang.org/x/sys/windows"
)

// mends has, for errors of Windows, what an admin does about them.
func mends(code windows.Errno) string {
	switch code {
	case windows.ERROR_ACCESS_DENIED:
		return "open a console with 'Run as administrator'"
	case windows.ERROR_SERVICE_LOGON_FAILED: // 1069
		return "Windows did not log the service's account on: a changed or wrong password ('service install --account NAME' asks for it again), " +
			"a gMSA that this machine may not use ('Test-ADServiceAccount NAME' says so), or no right to log on as a service " +
			"('service install' gives it; a group policy may take it away again)"
	case windows.ERROR_LOGON_FAILURE: // 1326
		return "the account's name or password is wrong; 'service install --account NAME' asks for the password again"
	case windows.ERROR_LOGON_TYPE_NOT_GRANTED, windows.Errno(windows.STATUS_LOGON_TYPE_NOT_GRANTED): // 1385, 0xC000015B
		return "the account lacks the right 'Log on as a service' (or 'Deny log on as a service' names it): 'service install' gives it; if it is gone " +
			"again later, a group policy sets it: add the account there (User Rights Assignment)"
	case windows.ERROR_INVALID_SERVICE_ACCOUNT: // 1057
		return "there is no such account, or its password is wrong"
	case windows.ERROR_ACCOUNT_DISABLED, windows.ERROR_ACCOUNT_LOCKED_OUT, windows.ERROR_ACCOUNT_EXPIRED, windows.ERROR_PASSWORD_EXPIRED,
		windows.ERROR_PASSWORD_MUST_CHANGE, windows.ERROR_ACCOUNT_RESTRICTION:
		return "look at the account in the domain (or in lusrmgr.msc)"
	case windows.ERROR_TRUSTED_RELATIONSHIP_FAILURE, windows.ERROR_TRUST_FAILURE:
		return "this machine's own account in the domain is broken: Test-ComputerSecureChannel -Repair"
	case windows.ERROR_SERVICE_REQUEST_TIMEOUT: // 1053
		return "the program said nothing for 30 s: the machine is very slow, or something holds it up (an antivirus?)"
	case windows.ERROR_SERVICE_DEPENDENCY_FAIL: // 1068
		return "Netlogon does not run, on which an account of a domain depends: is this machine in the domain?"
	case windows.ERROR_SERVICE_DISABLED:
		return "somebody has disabled it; 'service install' enables it"
	case windows.ERROR_SERVICE_MARKED_FOR_DELETE:
		return "it was removed, but something holds it open: close services.msc and Task Manager, and try again"
	case windows.ERROR_FILE_NOT_FOUND, windows.ERROR_PATH_NOT_FOUND:
		return "the program is not where it was; 'service install' of the present one mends that"
	}
	return ""
}

// explain adds to an error of Windows its number, by which people search, and the mend.
func explain(err error) error {
	code, ok := errors.AsType[windows.Errno](err)
	if !ok {
		return err
	}
	number := fmt.Sprintf("error %d", uint32(code))
	if code >= 0xC0000000 {
		number = fmt.Sprintf("error 0x%X", uint32(code))
	}
	mend := mends(code)
	if mend == "" {
		return fmt.Errorf("%w (%s)", err, number)
	}
	return fmt.Errorf("%w (%s): %s", err, number, mend)
}

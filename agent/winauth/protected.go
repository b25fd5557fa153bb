package winauth

import "strings"

// suffixCounts says whether the end of a user principal name is one of those that count.
func suffixCounts(upn string, suffixes []string) bool {
	at := strings.LastIndexByte(upn, '@')
	for _, s := range suffixes {
		if at > 0 && strings.EqualFold(upn[at+1:], strings.TrimPrefix(s, "@")) {
			return true
		}
	}
	return len(suffixes) == 0
}

// protectedRIDs are the groups and accounts of a domain that Windows protects (AdminSDHolder), and Protected Users: an access
// token of the cloud is no way to become one of them. By the last number of their SIDs (MS-DTYP section 2.4.2.4).
var protectedRIDs = map[string]string{
	"500": "the domain's Administrator", "502": "krbtgt", "512": "Domain Admins", "516": "Domain Controllers", "518": "Schema Admins",
	"519": "Enterprise Admins", "521": "Read-only Domain Controllers", "525": "Protected Users", "526": "Key Admins", "527": "Enterprise Key Admins",
}

// protectedBuiltin are the same among the groups that every domain has.
var protectedBuiltin = map[string]string{
	"S-1-5-32-544": "Administrators", "S-1-5-32-548": "Account Operators", "S-1-5-32-549": "Server Operators",
	"S-1-5-32-550": "Print Operators", "S-1-5-32-551": "Backup Operators",
}

// protectedOf names what is protected of an account and its groups; "" if nothing is.
func protectedOf(sid string, groups []string) string {
	name := protected(sid)
	for i := 0; name == "" && i < len(groups); i++ {
		name = protected(groups[i])
	}
	return name
}

// protected names the protected account or group that a SID is; "" if it is none. It looks at each of a person's groups on each
// call, so the maps are asked only about what can be in them.
func protected(sid string) string {
	const digits = 3 // of each number in protectedRIDs
	at := len(sid) - digits
	switch {
	case strings.HasPrefix(sid, "S-1-5-32-"):
		return protectedBuiltin[sid]
	case at > 0 && sid[at-1] == '-' && strings.HasPrefix(sid, "S-1-5-21-"):
		return protectedRIDs[sid[at:]]
	}
	return ""
}

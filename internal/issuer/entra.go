package issuer

import (
	"net/url"
	"strings"
)

// Issuers of Entra's tokens of version 1, whatever the authority; China has its own.
const (
	stsIssuer      = "https://sts.windows.net/"
	stsIssuerChina = "https://sts.chinacloudapi.cn/"
)

// Entra names the issuers of a Microsoft Entra ID tenant's tokens: of version 1, and of version 2, whose keys sign both.
// The authority is a cloud's sign-on address, such as https://login.microsoftonline.com.
func Entra(authority, tenant string) (v1, v2 string) {
	authority = strings.TrimSuffix(authority, "/")
	sts := stsIssuer
	if u, err := url.Parse(authority); err == nil &&
		(strings.HasSuffix(u.Hostname(), ".chinacloudapi.cn") || strings.HasSuffix(u.Hostname(), ".partner.microsoftonline.cn")) {
		sts = stsIssuerChina
	}
	return sts + tenant + "/", authority + "/" + tenant + "/v2.0"
}

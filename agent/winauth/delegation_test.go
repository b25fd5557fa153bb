package winauth

import "testing"

func TestProtected(t *testing.T) {
	t.Parallel()
	const domain = "S-1-5-21-1-2-3-"
	for sid, want := range map[string]string{
		domain + "512": "Domain Admins", domain + "525": "Protected Users", domain + "500": "the domain's Administrator",
		"S-1-5-32-544": "Administrators", domain + "513": "", domain + "1512": "", "S-1-5-32-512": "", "S-1-18-1": "", "": "",
	} {
		if got := protectedOf(domain+"1104", []string{domain + "513", sid}); got != want {
			t.Errorf("in %q: %q, want %q", sid, got, want)
		}
	}
	if got := protectedOf(domain+"502", nil); got != "krbtgt" {
		t.Errorf("krbtgt itself: %q", got)
	}
}

func TestSuffixes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		upn      string
		suffixes []string
		counts   bool
	}{
		{"anna@corp.example", nil, true},
		{"anna@Corp.Example", []string{"other.example", "@corp.example"}, true},
		{"anna@sub.corp.example", []string{"corp.example"}, false},
		{"anna@corp.example@evil.example", []string{"corp.example"}, false},
		{"corp.example", []string{"corp.example"}, false},
		{"", []string{"corp.example"}, false},
	} {
		if got := suffixCounts(c.upn, c.suffixes); got != c.counts {
			t.Errorf("%q of %q: %v", c.upn, c.suffixes, got)
		}
	}
}

package winauth

import (
	"fmt"
	"slices"
	"testing"
)

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
	for rid, want := range protectedRIDs {
		if got := protected(domain + rid); got != want {
			t.Errorf("%s: %q, want %q", rid, got, want)
		}
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

// member is a person in n groups of the domain.
func member(n int) *someone {
	s := &someone{upn: "anna@corp.example", sid: "S-1-5-21-1-2-3-1104"}
	for i := range n {
		s.groups = append(s.groups, fmt.Sprintf("S-1-5-21-1111111111-2222222222-333333333-%d", 20000+i))
	}
	slices.Sort(s.groups)
	return s
}

// BenchmarkAdmits is what is judged of a person on each call: suffix, protected groups, deny and allow lists.
func BenchmarkAdmits(b *testing.B) {
	for _, n := range []int{10, 100, 900} {
		s := member(n)
		d := &Delegation{config: DelegationConfig{
			UPNSuffixes: []string{"corp.example"}, DenyGroups: []string{"S-1-5-21-1-2-3-9999"}, AllowGroups: []string{s.groups[n/2]},
		}}
		b.Run(fmt.Sprint(n, " groups"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := d.admits(b.Context(), Person{UPN: s.upn}, s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package directory

import "testing"

// FuzzSID: whatever a directory sends, there is a SID in its written form or an error.
func FuzzSID(f *testing.F) {
	f.Add([]byte{1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0x50, 4, 0, 0})
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 5})
	f.Add([]byte{1, 16})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := sidOf(data)
		if err == nil && data[1] > 0 && !IsSID(s) {
			t.Errorf("%x is %q", data, s)
		}
	})
}

func TestSID(t *testing.T) {
	t.Parallel()
	s, err := sidOf([]byte{1, 5, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0x50, 4, 0, 0})
	if s != "S-1-5-21-1-2-3-1104" || err != nil {
		t.Errorf("%q, %v", s, err)
	}
	for _, bad := range []string{"", "S-1-5", "s-1-5-21-1", "S-1-5-21-1)(cn=*", "S-1-5-21-12345678901"} {
		if IsSID(bad) {
			t.Errorf("%q is a SID", bad)
		}
	}
}

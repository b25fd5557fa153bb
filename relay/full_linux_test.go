package relay

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/relay/admin"
	"sallyport/test/loud"
)

// TestFullDiskIsNotReady: a relay that cannot write says so to balancers and admins, changes nothing by halves, and goes on by
// itself when there is room.
func TestFullDiskIsNotReady(t *testing.T) {
	t.Parallel()
	dir := loud.NeedsDisk(t, 128, "a relay on a really full disk is not tried")
	r, _ := running(t, Config{Data: filepath.Join(dir, "data"), Socket: filepath.Join(t.TempDir(), "s")})
	ready := func() (int, string) {
		resp, err := http.Get("http://" + r.Addr().String() + "/_/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text)
	}
	c := admin.NewClient(r.config.socket())
	if status, text := ready(); status != 200 {
		t.Fatalf("before: %d %q", status, text)
	}
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(fs.Bavail)*fs.Bsize-20<<20); err != nil {
		t.Fatal(err)
	}
	if status, text := ready(); status != 503 || text != "the store cannot write\n" {
		t.Errorf("on a full disk: %d %q", status, text)
	}
	_, err = c.AddGateway(t.Context(), "plant2", admin.NewJoin{})
	if err == nil || !strings.Contains(err.Error(), "MB free, 32 MB needed; free some space") {
		t.Errorf("a change on a full disk: %v", err)
	}
	if s, err := c.Status(t.Context()); err != nil || s.StoreTrouble == "" || len(s.Gateways) != 1 {
		t.Errorf("status on a full disk: %+v, %v", s, err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	_ = f.Close() // gives the space back
	if status, text := ready(); status != 200 {
		t.Errorf("afterwards: %d %q", status, text)
	}
	if _, err = c.AddGateway(t.Context(), "plant2", admin.NewJoin{}); err != nil {
		t.Errorf("a change afterwards: %v", err)
	}
}

package guard

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// maxAgent bounds the agent's stripped binary. A library that doubles it is seen here, before a security team sees it.
const maxAgent = 20 << 20

func TestAgentBinaryIsSmall(t *testing.T) {
	t.Parallel()
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "sallyport-agent")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./cmd/sallyport-agent")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, text)
	}
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the agent's binary, stripped: %.1f MB (bound: %d MB)", float64(info.Size())/(1<<20), maxAgent>>20)
	if info.Size() > maxAgent {
		t.Errorf("the agent's binary has %d bytes, the bound is %d: what was linked?", info.Size(), maxAgent)
	}
}

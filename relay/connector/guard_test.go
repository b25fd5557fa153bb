package connector

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestGuard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &guard{log: slog.New(slog.DiscardHandler)}
		a := addressSource("2001:db8::1")
		fail := func() time.Duration { return g.fail(time.Now(), "plant1/orders", a) }
		for range freeFailures {
			if w := fail(); w != 0 {
				t.Fatalf("slowed too early: %s", w)
			}
		}
		for _, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			if w := fail(); w != want {
				t.Errorf("wait %s, want %s", w, want)
			}
		}
		if w := g.wait(time.Now(), addressSource("2001:db8::2")); w == 0 {
			t.Error("another address of the same /64 goes by")
		}
		if w := g.wait(time.Now(), addressSource("2001:db8:0:1::1")); w != 0 {
			t.Error("a stranger has to wait")
		}
		for range 40 {
			if w := fail(); w > guardMost {
				t.Errorf("wait %s", w)
			}
		}
		time.Sleep(guardForget + time.Second)
		if w := fail(); w != 0 {
			t.Errorf("not forgotten: %s", w)
		}
	})
}

func TestGuardIsBounded(t *testing.T) {
	t.Parallel()
	g := &guard{log: slog.New(slog.DiscardHandler)}
	for i := range maxSources + 1000 {
		g.fail(time.Now(), "plant1/orders", addressSource(fmt.Sprintf("2001:db8:%x:%x::1", i>>8, i&255)))
	}
	if n := len(g.sources); n > maxSources {
		t.Errorf("%d sources, at most %d", n, maxSources)
	}
	l := newLogons()
	for i := range maxLogons + 1000 {
		l.learn([32]byte{byte(i), byte(i >> 8), byte(i >> 16)}, time.Now())
	}
	if n := len(l.right); n > maxLogons {
		t.Errorf("%d logons, at most %d", n, maxLogons)
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "5/s", "100/m", "1000/h"} {
		if r, err := ParseRate(text); err != nil || r.String() != text {
			t.Errorf("%q: %q, %v", text, r, err)
		}
	}
	for _, bad := range []string{"5", "/m", "0/m", "-1/m", "5/d", "5/", "1.5/s", "9999999/s", "5/m/m"} {
		if _, err := ParseRate(bad); err == nil {
			t.Errorf("%q is taken for a rate", bad)
		}
	}
	var g gauge
	now := time.Now()
	limit := Rate{2, time.Minute}
	for i, want := range []time.Duration{0, 0, 30 * time.Second, 30 * time.Second} {
		if w := g.wait(limit, now); (w - want).Abs() > time.Millisecond {
			t.Errorf("call %d waits %s, want %s", i, w, want)
		}
	}
	if w := g.wait(limit, now.Add(31*time.Second)); w != 0 {
		t.Errorf("after half a minute: %s", w)
	}
	if w := g.wait(Rate{3, time.Minute}, now); w != 0 {
		t.Errorf("a new rate holds at once: %s", w)
	}
}

func TestWaysThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for ways, good := range map[string]bool{
		"key": true, "basic": true, "none": true, "key,basic": true, "basic+key": true,
		"": false, "key,key": false, "none,basic": false, "key+none": false, "key+key": false, "key,key+basic": false,
		"basic+key,key+basic": false, "windows": false, "key+": false,
	} {
		_, err := Connector{Gateway: "plant1", Name: "orders", Auth: strings.Split(ways, ",")}.normal()
		if (err == nil) != good {
			t.Errorf("%s: %v", ways, err)
		}
	}
}

// TestPasswordsAreKnownForAWhile: a right password costs a hash once in five minutes, whatever the load.
func TestPasswordsAreKnownForAWhile(t *testing.T) {
	t.Parallel()
	l := newLogons()
	u := makeUser("alice", "a password of hers")
	now := time.Now()
	if l.known(&u, "a password of hers", now) {
		t.Error("known before it was verified")
	}
	if ok, err := l.verify(t.Context(), &u, "a password of hers"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	other := makeUser("alice", "a password of hers")
	for what, known := range map[string]bool{
		"right": l.known(&u, "a password of hers", now), "wrong": !l.known(&u, "another password", now),
		"set again": !l.known(&other, "a password of hers", now), "late": !l.known(&u, "a password of hers", now.Add(logonLife+time.Minute)),
	} {
		if !known {
			t.Error(what)
		}
	}
	for range logonsAtOnce {
		l.slots <- struct{}{}
	}
	if _, err := l.verify(t.Context(), &u, "x"); problemOf(err).Code != "relay-busy" {
		t.Errorf("with all slots taken: %v", err)
	}
}

// FuzzBasicCredentials: what is read is what was written, and nothing else is read.
func FuzzBasicCredentials(f *testing.F) {
	f.Add("Basic YWxpY2U6cGFzcw==")
	f.Add("basic  YTo=")
	f.Add("Bearer x.y.z")
	f.Add("Basic OjpwYXNz")
	f.Fuzz(func(t *testing.T, value string) {
		name, password, ok := basicCredentials(value)
		if !ok {
			return
		}
		if strings.Contains(name, ":") {
			t.Errorf("%q: name %q", value, name)
		}
		again := "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
		if n, p, ok := basicCredentials(again); !ok || n != name || p != password {
			t.Errorf("%q is read as %q %q, then as %q %q", value, name, password, n, p)
		}
	})
}

package connector_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sallyport/relay/connector"
	"sallyport/tunnel"
)

func TestEventsArriveOneByOne(t *testing.T) {
	next := make(chan string)
	r := start(t, func(s *tunnel.Stream) {
		_ = s.SendResponse(&tunnel.Response{Status: 200, Header: header("Content-Type", "text/event-stream"), ContentLength: -1}, false)
		for event := range next {
			_, _ = io.WriteString(s, event)
		}
		_ = s.CloseWrite(nil)
	}, settings{})
	both(t, func(t *testing.T, caller *http.Client) {
		next = make(chan string)
		resp := r.do(t, caller, "GET", "/plant1/orders/", nil) // the head is there before the first event
		for i := range 3 {
			event := fmt.Sprintf("data: %d\n\n", i)
			next <- event
			got := make([]byte, len(event))
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != event {
				t.Fatalf("event %d: %q, %v", i, got, err)
			}
		}
		close(next)
		if rest := text(t, resp.Body); rest != "" {
			t.Errorf("left over: %q", rest)
		}
	})
}

func TestAnswerThatBreaksOffIsNeverWhole(t *testing.T) {
	for name, length := range map[string]int64{"known length": 1000, "unknown length": -1} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(s *tunnel.Stream) {
				_ = s.SendResponse(&tunnel.Response{Status: 200, ContentLength: length}, false)
				_, _ = io.WriteString(s, "half")
				s.Reset(tunnel.BrokenOff, "the upstream died")
			}, settings{})
			both(t, func(t *testing.T, caller *http.Client) {
				resp, err := caller.Get(r.url("/plant1/orders/"))
				if err != nil {
					return // broken before the head was out, which is as good
				}
				defer resp.Body.Close()
				if resp.StatusCode != 200 {
					return
				}
				if body, err := io.ReadAll(resp.Body); err == nil {
					t.Errorf("a whole answer: %q", body)
				}
				if e := r.event(); !e.Broken || e.Code != "upstream-broken" {
					t.Errorf("recorded %+v", e)
				}
			})
			t.Run("HTTP/1.0", func(t *testing.T) {
				_, br := r.raw(t, "GET /plant1/orders/ HTTP/1.0\r\n\r\n")
				all, err := io.ReadAll(br)
				if err == nil && bytes.Contains(all, []byte("200 OK")) && length < 0 {
					t.Errorf("the connection ended as if the answer were whole: %q", all)
				}
			})
		})
	}
}

func TestAnswersShorterOrLongerThanAnnounced(t *testing.T) {
	for _, length := range []int64{3, 5} {
		r := start(t, func(s *tunnel.Stream) {
			_ = s.SendResponse(&tunnel.Response{Status: 200, ContentLength: length}, false)
			_, _ = io.WriteString(s, "four")
			_ = s.CloseWrite(nil)
		}, settings{})
		both(t, func(t *testing.T, caller *http.Client) {
			resp, err := caller.Get(r.url("/plant1/orders/"))
			if err != nil {
				return
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err == nil && resp.StatusCode == 200 {
				t.Errorf("announced %d, got %q as a whole answer", length, body)
			}
			if e := r.event(); !e.Broken {
				t.Errorf("recorded %+v", e)
			}
		})
	}
}

func TestCallerThatLeavesCancelsTheStream(t *testing.T) {
	entered, left := make(chan bool, 1), make(chan error, 1)
	r := start(t, func(s *tunnel.Stream) {
		if strings.HasSuffix(s.Request().Target, "body") {
			_ = s.SendResponse(&tunnel.Response{Status: 200, ContentLength: -1}, false)
		}
		entered <- true
		<-s.Context().Done()
		left <- context.Cause(s.Context())
	}, settings{})
	both(t, func(t *testing.T, caller *http.Client) {
		for _, path := range []string{"/head", "/body"} {
			ctx, cancel := context.WithCancel(context.Background())
			q, _ := http.NewRequestWithContext(ctx, "GET", r.url("/plant1/orders"+path), nil)
			done := make(chan bool)
			go func() {
				if resp, err := caller.Do(q); err == nil {
					_, _ = io.ReadAll(resp.Body)
					_ = resp.Body.Close()
				}
				close(done)
			}()
			<-entered
			cancel()
			<-done
			select {
			case err := <-left:
				if reset, ok := errors.AsType[*tunnel.ResetError](err); !ok || reset.Code != tunnel.Cancelled {
					t.Errorf("%s: the agent heard %v", path, err)
				}
			case <-time.After(10 * time.Second):
				t.Errorf("%s: the agent never heard of it", path)
			}
		}
	})
}

func TestSlowCallers(t *testing.T) {
	t.Run("body", func(t *testing.T) {
		cut := make(chan error, 4)
		r := start(t, func(s *tunnel.Stream) { _, err := io.Copy(io.Discard, s); cut <- err }, settings{options: func(o *connector.Options) {
			o.CallerTimeout = 200 * time.Millisecond
		}})
		for size, executed := range map[int]string{100: "no", 100_000: "unknown"} {
			_, br := r.raw(t, fmt.Sprintf("PUT /plant1/orders/ HTTP/1.1\r\nHost: relay\r\nContent-Length: %d\r\n\r\nhalf", size))
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			wantProblem(t, resp, 408, "caller-too-slow", "relay", executed)
			if !resp.Close {
				t.Error("the connection stays open with half a body on it")
			}
		}
		if err := <-cut; err == nil {
			t.Error("the agent took the half for the whole")
		}
	})
	t.Run("never reads", func(t *testing.T) {
		reset := make(chan error, 1)
		r := start(t, func(s *tunnel.Stream) {
			_ = s.SendResponse(&tunnel.Response{Status: 200, ContentLength: -1}, false)
			for {
				if _, err := s.Write(make([]byte, 32<<10)); err != nil {
					reset <- err
					return
				}
			}
		}, settings{options: func(o *connector.Options) { o.CallerTimeout = 300 * time.Millisecond }})
		r.raw(t, "GET /plant1/orders/ HTTP/1.1\r\nHost: relay\r\n\r\n")
		select {
		case <-reset:
		case <-time.After(15 * time.Second):
			t.Error("the stream of a caller that never reads is not reset")
		}
	})
}

func TestExpectContinue(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		r := start(t, func(s *tunnel.Stream) {
			_ = s.SendResponse(&tunnel.Response{
				Status: 403, Problem: &tunnel.Problem{Code: "policy-refused", Origin: "agent", Executed: "no"},
			}, true)
		}, settings{})
		_, br := r.raw(t, "PUT /plant1/orders/ HTTP/1.1\r\nHost: relay\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantProblem(t, resp, 403, "policy-refused", "agent", "no") // and no 100 before it
		if !resp.Close {
			t.Error("the connection stays open though the body may still come")
		}
	})
	t.Run("allowed", func(t *testing.T) {
		allowed := make(chan bool)
		r := start(t, func(s *tunnel.Stream) {
			if !s.Request().Expect {
				t.Error("the agent does not know that the caller waits")
			}
			<-allowed
			s.AllowBody()
			body, _ := io.ReadAll(s)
			respond(200, string(body))(s)
		}, settings{})
		conn, br := r.raw(t, "PUT /plant1/orders/ HTTP/1.1\r\nHost: relay\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		_ = conn.SetReadDeadline(time.Now().Add(150 * time.Millisecond))
		if b, err := br.Peek(1); err == nil {
			t.Fatalf("%q came before the agent allowed the body", b)
		}
		_ = conn.SetReadDeadline(time.Now().Add(15 * time.Second))
		close(allowed)
		if line, err := textproto.NewReader(br).ReadLine(); err != nil || line != "HTTP/1.1 100 Continue" {
			t.Fatal(line, err)
		}
		_, _ = br.ReadString('\n')
		_, _ = io.WriteString(conn, "hello")
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := text(t, resp.Body); got != "hello" || resp.Close {
			t.Errorf("%q, close %v", got, resp.Close)
		}
	})
}

func TestTrailersBothWays(t *testing.T) {
	both(t, func(t *testing.T, caller *http.Client) {
		var announced []string
		var seen http.Header
		r := start(t, func(s *tunnel.Stream) {
			announced = s.Request().Header["Trailer"]
			_, _ = io.Copy(io.Discard, s)
			seen = s.Trailer()
			_ = s.SendResponse(&tunnel.Response{Status: 200, ContentLength: -1, Header: header("Trailer", "X-Sum, Authorization, X-Sum2")}, false)
			_, _ = io.WriteString(s, "body")
			_ = s.CloseWrite(header("X-Sum", "1", "Authorization", "evil", "Set-Cookie", "a=b", "Content-Length", "9", "X-Late", "2"))
		}, settings{})
		q, _ := http.NewRequest("POST", r.url("/plant1/orders/"), struct{ io.Reader }{strings.NewReader("x")})
		q.Trailer = header("X-Up", "up", "Cookie", "evil")
		resp, err := caller.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, ok := resp.Trailer["X-Sum"]; !ok || len(resp.Trailer["Authorization"]) > 0 {
			t.Errorf("announced to the caller: %v", resp.Trailer)
		}
		_ = text(t, resp.Body)
		if resp.Trailer.Get("X-Sum") != "1" || resp.Trailer.Get("X-Late") != "2" || resp.Trailer.Get("Authorization") != "" ||
			resp.Trailer.Get("Set-Cookie") != "" {
			t.Errorf("trailers at the caller: %v", resp.Trailer)
		}
		if len(announced) != 1 || announced[0] != "X-Up" || seen.Get("X-Up") != "up" || seen.Get("Cookie") != "" {
			t.Errorf("announced to the agent %q, trailers %v", announced, seen)
		}
	})
}

func TestInformationalAnswers(t *testing.T) {
	r := start(t, func(s *tunnel.Stream) {
		_ = s.SendResponse(&tunnel.Response{Status: 103, Header: header("Link", "</a>", "Transfer-Encoding", "x"), ContentLength: -1}, false)
		respond(200, "x")(s)
	}, settings{})
	both(t, func(t *testing.T, caller *http.Client) {
		var hints []string
		ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				hints = append(hints, fmt.Sprint(code, h.Get("Link"), h.Get("Transfer-Encoding")))
				return nil
			},
		})
		q, _ := http.NewRequestWithContext(ctx, "GET", r.url("/plant1/orders/"), nil)
		resp, err := caller.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got := text(t, resp.Body); got != "x" || len(hints) != 1 || hints[0] != "103</a>" || resp.Header.Get("Link") != "" {
			t.Errorf("body %q, hints %q, final Link %q", got, hints, resp.Header.Get("Link"))
		}
	})
	t.Run("flood", func(t *testing.T) {
		r := start(t, func(s *tunnel.Stream) {
			for s.Context().Err() == nil {
				if s.SendResponse(&tunnel.Response{Status: 103, ContentLength: -1}, false) != nil {
					return
				}
				time.Sleep(time.Millisecond) // stay below the link's own bound
			}
		}, settings{})
		_, br := r.raw(t, "GET /plant1/orders/ HTTP/1.1\r\nHost: relay\r\n\r\n")
		for range 100 {
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != 103 {
				if resp.StatusCode != 502 {
					t.Errorf("status %d", resp.StatusCode)
				}
				return
			}
		}
		t.Error("the flood goes on")
	})
}

func TestAnswersWithoutBody(t *testing.T) {
	for _, c := range []struct {
		method         string
		status         int
		length, wanted int64
	}{
		{"HEAD", 200, 1234, 1234}, {"HEAD", 404, -1, -1}, {"GET", 204, -1, 0}, {"GET", 304, -1, 0},
	} {
		for name, body := range map[string]string{"": "", " with a body all the same": "evil"} {
			t.Run(fmt.Sprint(c.method, c.status, name), func(t *testing.T) {
				r := start(t, func(s *tunnel.Stream) {
					_ = s.SendResponse(&tunnel.Response{Status: c.status, ContentLength: c.length}, false)
					_, _ = io.WriteString(s, body)
					_ = s.CloseWrite(nil)
				}, settings{})
				both(t, func(t *testing.T, caller *http.Client) {
					for range 2 { // the second shows that nothing is left over from the first
						resp := r.do(t, caller, c.method, "/plant1/orders/", nil)
						if got := text(t, resp.Body); resp.StatusCode != c.status || got != "" || resp.ContentLength != c.wanted && resp.ProtoMajor == 1 {
							t.Errorf("%d %q, length %d", resp.StatusCode, got, resp.ContentLength)
						}
					}
				})
			})
		}
	}
}

func TestEarlyAnswerReachesACallerThatStillSends(t *testing.T) {
	r := start(t, func(s *tunnel.Stream) { _ = s.Answer(&tunnel.Response{Status: 401, ContentLength: 2}, []byte("no")) }, settings{})
	both(t, func(t *testing.T, caller *http.Client) {
		resp := r.do(t, caller, "PUT", "/plant1/orders/", struct{ io.Reader }{bytes.NewReader(make([]byte, 3<<20))})
		if got := text(t, resp.Body); resp.StatusCode != 401 || got != "no" {
			t.Errorf("%d %q", resp.StatusCode, got)
		}
		if resp := r.do(t, caller, "GET", "/plant1/orders/", nil); resp.StatusCode != 401 {
			t.Errorf("the next call: %d", resp.StatusCode)
		}
	})
}

const handshake = "GET /plant1/orders/ws HTTP/1.1\r\nHost: relay\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

func TestUpgrade(t *testing.T) {
	r := start(t, func(s *tunnel.Stream) {
		if q := s.Request(); q.Upgrade != "websocket" || q.Header.Get("Sec-Websocket-Key") == "" || q.Header.Get("Upgrade") != "" {
			t.Errorf("the agent saw %+v", q)
		}
		_ = s.SendResponse(&tunnel.Response{Status: 101, Header: header("Sec-Websocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), ContentLength: -1}, false)
		_, _ = io.WriteString(s, "welcome ")
		_, _ = io.Copy(struct{ io.Writer }{s}, struct{ io.Reader }{s})
		_ = s.CloseWrite(nil)
	}, settings{})
	conn, br := r.raw(t, handshake+"early ") // bytes right behind the handshake must not be lost
	resp, err := http.ReadResponse(br, &http.Request{Method: "GET"})
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "websocket" || resp.Header.Get("Connection") != "Upgrade" ||
		resp.Header.Get("Sec-WebSocket-Accept") == "" || resp.Header.Get("X-Request-Id") == "" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	_, _ = io.WriteString(conn, "late")
	_ = conn.(*net.TCPConn).CloseWrite()
	if got := text(t, br); got != "welcome early late" {
		t.Errorf("got %q", got)
	}
	if e := r.event(); e.Status != 101 || e.In != 10 || e.Out != 18 {
		t.Errorf("recorded %+v", e)
	}
}

func TestUpgradeThatIsRefusedIsAnOrdinaryAnswer(t *testing.T) {
	r := start(t, func(s *tunnel.Stream) { _ = s.Answer(&tunnel.Response{Status: 403, ContentLength: 2}, []byte("no")) }, settings{})
	conn, br := r.raw(t, handshake)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := text(t, resp.Body); resp.StatusCode != 403 || got != "no" {
		t.Fatalf("%d %q", resp.StatusCode, got)
	}
	_, _ = io.WriteString(conn, "GET /plant1/orders/next HTTP/1.1\r\nHost: relay\r\n\r\n")
	if resp, err = http.ReadResponse(br, nil); err != nil || resp.StatusCode != 403 {
		t.Errorf("the next call on the connection: %v %v", resp, err)
	}
}

func TestUpgradesThatAreNone(t *testing.T) {
	var upgrades atomic.Int32
	r := start(t, func(s *tunnel.Stream) {
		if s.Request().Upgrade != "" {
			upgrades.Add(1)
		}
		_ = s.SendResponse(&tunnel.Response{Status: 101, ContentLength: -1}, false)
	}, settings{})
	for text, status := range map[string]int{
		strings.Replace(handshake, "WebSocket\r", "h2c\r", 1):                  502,
		strings.Replace(handshake, "keep-alive, Upgrade", "keep-alive", 1):     502,
		strings.Replace(handshake, "GET", "POST", 1):                           400,
		strings.Replace(handshake, "Host:", "Content-Length: 1\r\nHost:", 1):   400,
		strings.Replace(handshake, "HTTP/1.1", "HTTP/1.0", 1):                  502,
		"GET /plant1/orders/ HTTP/1.1\r\nHost: relay\r\n\r\n":                  502,
		"GET /plant1/orders/ HTTP/1.1\r\nHost: relay\r\nUpgrade: x, y\r\n\r\n": 502,
	} {
		_, br := r.raw(t, text)
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != status {
			t.Errorf("%q: %v %v, want %d", text, resp, err, status)
		}
	}
	if n := upgrades.Load(); n > 0 {
		t.Errorf("%d were passed on as upgrades", n)
	}
}

// An upstream that takes no notice of a half-close does not keep the exchange of a caller that has gone.
func TestUpgradeEndsAfterItsCaller(t *testing.T) {
	ended := make(chan bool)
	r := start(t, func(s *tunnel.Stream) {
		_ = s.SendResponse(&tunnel.Response{Status: 101, ContentLength: -1}, false)
		_, _ = io.Copy(io.Discard, s) // to the caller's end, and then it says nothing
		<-s.Context().Done()
		close(ended)
	}, settings{options: func(o *connector.Options) { o.Linger = 100 * time.Millisecond }})
	conn, br := r.raw(t, handshake)
	if _, err := http.ReadResponse(br, &http.Request{Method: "GET"}); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the exchange goes on without its caller")
	}
}

func TestIdleUpgradeEnds(t *testing.T) {
	ended := make(chan bool)
	r := start(t, func(s *tunnel.Stream) {
		_ = s.SendResponse(&tunnel.Response{Status: 101, ContentLength: -1}, false)
		<-s.Context().Done()
		close(ended)
	}, settings{options: func(o *connector.Options) { o.IdleTimeout = 200 * time.Millisecond }})
	_, br := r.raw(t, handshake)
	_, _ = io.ReadAll(br)
	<-ended
}

// Requests that parsers disagree about. None may reach the agent twice, nor with another's body.
func TestFraming(t *testing.T) {
	const head = "POST /plant1/orders/ HTTP/1.1\r\nHost: relay\r\n"
	for _, c := range []struct {
		name, text string
		status     []int // in order; 0: the connection ends without an answer
	}{
		{"both lengths", head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /plant1/orders/smuggled HTTP/1.1\r\nHost: a\r\n\r\n", []int{200, 0}},
		{"two lengths", head + "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", []int{400}},
		{"list of lengths", head + "Content-Length: 5,5\r\n\r\nabcde", []int{400}},
		{"signed length", head + "Content-Length: +5\r\n\r\nabcde", []int{400}},
		{"negative length", head + "Content-Length: -5\r\n\r\nabcde", []int{400}},
		{"unknown coding", head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", []int{501}},
		{"identity", head + "Transfer-Encoding: identity\r\n\r\nabc", []int{501}},
		{"two codings", head + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", []int{501}},
		{"space before colon", "GET /plant1/orders/ HTTP/1.1\r\nHost: relay\r\nX-A : 1\r\n\r\n", []int{400}},
		{"folded field", "GET /plant1/orders/ HTTP/1.1\r\nHost: relay\r\nX-A: 1\r\n evil: 2\r\n\r\n", []int{200}},
		{"no host", "GET /plant1/orders/ HTTP/1.1\r\n\r\n", []int{400}},
		{"two hosts", "GET /plant1/orders/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", []int{400}},
		{"bad chunk length", head + "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", []int{400}},
		{"bare LF in chunk length", head + "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", []int{400}},
		{"NUL in a field", "GET /plant1/orders/ HTTP/1.1\r\nHost: relay\r\nX-A: a\x00b\r\n\r\n", []int{400}},
		{"pipelined", "GET /plant1/orders/ HTTP/1.1\r\nHost: relay\r\n\r\nGET /plant1/orders/2 HTTP/1.1\r\nHost: relay\r\n\r\n", []int{200, 200}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var targets atomic.Pointer[[]string]
			targets.Store(&[]string{})
			r := start(t, func(s *tunnel.Stream) {
				all := append(*targets.Load(), s.Request().Target)
				targets.Store(&all)
				respond(200, "")(s)
			}, settings{})
			_, br := r.raw(t, c.text)
			for _, want := range c.status {
				resp, err := http.ReadResponse(br, &http.Request{Method: "POST"})
				if want == 0 {
					if err == nil {
						t.Errorf("one more answer: %d", resp.StatusCode)
					}
					break
				}
				if err != nil || resp.StatusCode != want {
					t.Fatalf("%v %v, want %d", resp, err, want)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
			}
			for _, target := range *targets.Load() {
				if strings.Contains(target, "smuggled") {
					t.Errorf("the agent was asked for %v", *targets.Load())
				}
			}
		})
	}
}

// A body that is not read to its end must not become the next request.
func TestUnreadBodyIsNotARequest(t *testing.T) {
	var smuggled atomic.Bool
	r := start(t, func(s *tunnel.Stream) {
		if strings.Contains(s.Request().Target, "smuggled") {
			smuggled.Store(true)
		}
		_ = s.Answer(&tunnel.Response{Status: 200, ContentLength: 2}, []byte("ok"))
	}, settings{options: func(o *connector.Options) { o.CallerTimeout = 300 * time.Millisecond }})
	next := "GET /plant1/orders/smuggled HTTP/1.1\r\nHost: relay\r\n\r\n"
	for name, text := range map[string]string{
		"length":  "POST /plant1/orders/ HTTP/1.1\r\nHost: relay\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 65_000) + next,
		"chunked": "POST /plant1/orders/ HTTP/1.1\r\nHost: relay\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n" + next,
		"refused": "POST /plant1/none HTTP/1.1\r\nHost: relay\r\nContent-Length: 100\r\n\r\n" + next,
	} {
		t.Run(name, func(t *testing.T) {
			conn, br := r.raw(t, text)
			for {
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					break
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_, _ = io.WriteString(conn, next)
			}
		})
	}
	if smuggled.Load() {
		t.Error("the rest of a body was run as a request")
	}
}

// TestHeadArrivesBeforeTheBody: a caller may act on the head of an answer whose body takes its time, also where its length is known.
func TestHeadArrivesBeforeTheBody(t *testing.T) {
	more := make(chan struct{})
	r := start(t, func(s *tunnel.Stream) {
		_ = s.SendResponse(&tunnel.Response{Status: 200, ContentLength: 4}, false)
		select {
		case <-more:
		case <-s.Context().Done():
		}
		_, _ = io.WriteString(s, "body")
		_ = s.CloseWrite(nil)
	}, settings{})
	both(t, func(t *testing.T, caller *http.Client) {
		caller.Timeout = 5 * time.Second
		resp := r.do(t, caller, "GET", "/plant1/orders/", nil)
		more <- struct{}{}
		if got := text(t, resp.Body); got != "body" || resp.ContentLength != 4 {
			t.Errorf("%q of %d bytes", got, resp.ContentLength)
		}
	})
}

// TestEarlyAnswerOutlivesTheUpload: once the answer is under way, the caller's body is of no more weight. A caller that has read
// 401 or 413 sends nothing more, and must have the whole answer, however long that takes.
func TestEarlyAnswerOutlivesTheUpload(t *testing.T) {
	const part = 64 << 10
	r := start(t, func(s *tunnel.Stream) {
		_ = s.SendResponse(&tunnel.Response{Status: 413, ContentLength: 8 * part}, false)
		read := make(chan struct{})
		go func() { defer close(read); _, _ = io.Copy(io.Discard, s) }()
		defer func() { <-read }() // the relay ends it behind the answer
		for range 8 {
			_, _ = s.Write(make([]byte, part))
			time.Sleep(100 * time.Millisecond)
		}
		_ = s.CloseWrite(nil)
	}, settings{options: func(o *connector.Options) { o.CallerTimeout = 300 * time.Millisecond }})
	both(t, func(t *testing.T, caller *http.Client) {
		body, stop := io.Pipe()
		defer stop.Close()
		go func() { // ends with the pipe
			for b := make([]byte, 16<<10); ; {
				if _, err := stop.Write(b); err != nil {
					return
				}
			}
		}()
		defer body.Close()
		resp := r.do(t, caller, "PUT", "/plant1/orders/", struct{ io.Reader }{body})
		got, err := io.ReadAll(resp.Body)
		if resp.StatusCode != 413 || len(got) != 8*part || err != nil {
			t.Errorf("%d, %d bytes of %d: %v", resp.StatusCode, len(got), 8*part, err)
		}
	})
}

// TestBodyThatFailsBehindAnAnswer: a caller of HTTP/2 ends its body short of its announced length, because the answer is there.
func TestBodyThatFailsBehindAnAnswer(t *testing.T) {
	answered, more := make(chan struct{}), make(chan struct{})
	r := start(t, func(s *tunnel.Stream) {
		_ = s.SendResponse(&tunnel.Response{Status: 401, ContentLength: 7}, false)
		select {
		case <-more:
		case <-s.Context().Done():
			return
		}
		_, _ = io.WriteString(s, "not you")
		_ = s.CloseWrite(nil)
	}, settings{})
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(conn, http2.ClientPreface)
	f := http2.NewFramer(conn, conn)
	_ = f.WriteSettings()
	var head bytes.Buffer
	enc := hpack.NewEncoder(&head)
	for _, field := range [...][2]string{
		{":method", "PUT"}, {":scheme", "http"}, {":authority", "relay"}, {":path", "/plant1/orders/"}, {"content-length", "1000000"},
	} {
		_ = enc.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true})
	_ = f.WriteData(1, false, make([]byte, 1000))
	go func() { // ends with the exchange, and before the test, which waits for its answer
		<-answered
		_ = f.WriteData(1, true, nil)
		time.Sleep(100 * time.Millisecond) // for the relay to find its body failed
		close(more)
	}()
	var body []byte
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch frame := frame.(type) {
		case *http2.HeadersFrame:
			close(answered)
		case *http2.RSTStreamFrame:
			t.Fatalf("the answer was destroyed after %q: %v", body, frame.ErrCode)
		case *http2.DataFrame:
			body = append(body, frame.Data()...)
			if frame.StreamEnded() {
				if string(body) != "not you" {
					t.Errorf("the body is %q", body)
				}
				return
			}
		}
	}
}

// TestHostCookiesNeedAHost: browsers take a __Host- cookie for "/" only, where all connectors of the host would get it.
func TestHostCookiesNeedAHost(t *testing.T) {
	cookies := []string{"Set-Cookie", "__Host-sid=1; Path=/; Secure", "Set-Cookie", "__HOST-b=2; Path=/; Secure", "Set-Cookie", "c=3; Path=/"}
	var log bytes.Buffer
	for host, want := range map[string][]string{
		"":                   {"c=3; Path=/plant1/orders/"},
		"orders.example.com": {"__Host-sid=1; Path=/; Secure", "__HOST-b=2; Path=/; Secure", "c=3; Path=/"},
	} {
		log.Reset()
		r := start(t, respond(200, "", cookies...), settings{host: host, options: func(o *connector.Options) {
			o.Log = slog.New(slog.NewTextHandler(&log, nil))
		}})
		path := "/"
		if host == "" {
			path = "/plant1/orders/"
		}
		for range 2 {
			resp := r.do(t, http.DefaultClient, "GET", path, nil)
			if got := resp.Header["Set-Cookie"]; !slices.Equal(got, want) {
				t.Errorf("on the host %q: %q, want %q", host, got, want)
			}
		}
		if got := strings.Count(log.String(), "__Host- cookie"); got > 1 || (got == 1) != (host == "") {
			t.Errorf("on the host %q: warned %d times", host, got)
		}
	}
}

// TestSilentCallerGetsItsEarlyAnswer: over HTTP/1.1 a caller that has its answer's head says nothing more, and keeps the connection.
func TestSilentCallerGetsItsEarlyAnswer(t *testing.T) {
	r := start(t, func(s *tunnel.Stream) {
		_ = s.SendResponse(&tunnel.Response{Status: 401, ContentLength: 10}, false)
		read := make(chan struct{})
		go func() { defer close(read); _, _ = io.Copy(io.Discard, s) }()
		defer func() { <-read }() // the relay ends it behind the answer
		for range 10 {
			_, _ = s.Write([]byte("x"))
			time.Sleep(100 * time.Millisecond)
		}
		_ = s.CloseWrite(nil)
	}, settings{options: func(o *connector.Options) { o.CallerTimeout = 300 * time.Millisecond }})
	_, br := r.raw(t, "PUT /plant1/orders/ HTTP/1.1\r\nHost: relay\r\nContent-Length: 1000000\r\n\r\nsome")
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(resp.Body); resp.StatusCode != 401 || string(got) != "xxxxxxxxxx" || err != nil {
		t.Errorf("%d %q %v", resp.StatusCode, got, err)
	}
}

// An agent need not wait for a body's end: its last byte is enough, and the answer may be there before the relay's send of that byte
// returns.
func TestAnswerToTheLastByteKeepsTheConnection(t *testing.T) {
	const size = 60_000
	r := start(t, func(s *tunnel.Stream) {
		if _, err := io.ReadFull(s, make([]byte, size)); err != nil {
			s.Reset(tunnel.Internal, err.Error())
			return
		}
		_ = s.Answer(&tunnel.Response{Status: 200, Header: header(), ContentLength: 4}, []byte("done"))
	}, settings{})
	body := make([]byte, size)
	for i := range 500 {
		resp := r.do(t, http.DefaultClient, "POST", "/plant1/orders/", bytes.NewReader(body))
		if text(t, resp.Body) != "done" || resp.Close {
			t.Fatalf("call %d: %d, closed: %v", i, resp.StatusCode, resp.Close)
		}
	}
}

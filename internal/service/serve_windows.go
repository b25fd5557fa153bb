package service

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
)

// The manager wants to hear within each hint that something goes on, or takes the service for hung.
const (
	startHint = 30 * time.Second
	stopHint  = 10 * time.Second
	wordEvery = 2 * time.Second
)

// Serve runs a program for the service manager, which has started it: run until it returns, with a context that ends when
// the service is stopped or the machine shuts down. The manager takes it for running once run has called up. The error is
// run's own; a service whose run ends without having been told to has failed, and is started again. errand is called when
// RunAs has left an order, once at a time.
func Serve(ctx context.Context, name string, run func(ctx context.Context, up func()) error, errand func(ctx context.Context)) error {
	h := &handler{ctx: ctx, run: run, errand: errand}
	err := svc.Run(name, h)
	if errors.Is(err, windows.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) {
		return errors.New("this is for Windows' service manager; by hand, 'run' does the same")
	}
	return errors.Join(err, h.err)
}

type handler struct {
	ctx    context.Context //nolint:containedctx // svc.Run has no other way to hand it on
	run    func(ctx context.Context, up func()) error
	errand func(ctx context.Context)
	err    error
}

// Execute implements svc.Handler.
func (h *handler) Execute(args []string, requests <-chan svc.ChangeRequest, say chan<- svc.Status) (specific bool, code uint32) {
	say <- svc.Status{State: svc.StartPending, WaitHint: millis(startHint)}
	ctx, cancel := context.WithCancel(h.ctx)
	errands := &errands{do: h.errand}
	defer errands.Wait()
	defer cancel()
	run, alone := h.run, slices.Contains(args, errandStart)
	if alone { // it never says that it is up: nobody is to take it for the agent
		run = func(ctx context.Context, _ func()) error { h.errand(ctx); return nil }
	}
	up, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- run(ctx, sync.OnceFunc(func() { close(up) })) }() // ends before Execute does
	state, hint, point, told := svc.StartPending, startHint, uint32(0), alone && !slices.Contains(args, errandAgain)
	tick := time.NewTicker(wordEvery)
	defer tick.Stop()
	for {
		select {
		case <-up:
			up = nil
			if state == svc.StartPending {
				state, hint = svc.Running, 0
				say <- svc.Status{State: state, Accepts: svc.AcceptStop | svc.AcceptShutdown | svc.AcceptPreShutdown}
			}
		case h.err = <-done:
			if h.err != nil || !told {
				return true, 1
			}
			return false, 0
		case <-tick.C:
			if state == svc.Running {
				continue
			}
			point++
			say <- svc.Status{State: state, CheckPoint: point, WaitHint: millis(hint)}
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				say <- r.CurrentStatus
			case errandControl:
				errands.begin(ctx)
			case svc.Stop, svc.Shutdown, svc.PreShutdown:
				told, state, hint, point = true, svc.StopPending, stopHint, 1
				say <- svc.Status{State: state, CheckPoint: point, WaitHint: millis(hint)}
				cancel()
			}
		}
	}
}

// errands are carried out one at a time, beside the rest.
type errands struct {
	do   func(ctx context.Context)
	busy atomic.Bool
	sync.WaitGroup
}

func (e *errands) begin(ctx context.Context) {
	if !e.busy.CompareAndSwap(false, true) {
		return
	}
	e.Go(func() {
		defer e.busy.Store(false)
		e.do(ctx)
	})
}

func millis(d time.Duration) uint32 { return uint32(d / time.Millisecond) }

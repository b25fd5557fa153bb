package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// A Spell is one stretch of bad weather.
type Spell struct {
	Name string
	// Lasts is how long, between the two.
	Least, Most time.Duration
	// Strike brings it about; the lines are healed when it is over.
	Strike func(p *Proxy, r *rand.Rand)
}

// Weather is all that the proxy can do, each within what a link should live with or replace in seconds.
func Weather() []Spell {
	way := func(r *rand.Rand) Way { return Way(r.IntN(3)) }
	return []Spell{
		{"fair", 500 * time.Millisecond, 2 * time.Second, func(*Proxy, *rand.Rand) {}},
		{"delay", time.Second, 3 * time.Second, func(p *Proxy, r *rand.Rand) {
			p.Set(way(r), Line{Delay: time.Duration(20+r.IntN(400)) * time.Millisecond})
		}},
		{"slow", time.Second, 3 * time.Second, func(p *Proxy, r *rand.Rand) {
			p.Set(way(r), Line{Delay: 30 * time.Millisecond, Rate: 100_000 + r.IntN(1_000_000)})
		}},
		{"trickle", time.Second, 2 * time.Second, func(p *Proxy, r *rand.Rand) {
			p.Set(way(r), Line{Rate: 20_000, Piece: 1 + r.IntN(200)})
		}},
		{"reset", 200 * time.Millisecond, time.Second, func(p *Proxy, _ *rand.Rand) { p.Cut(RST) }},
		{"close", 200 * time.Millisecond, time.Second, func(p *Proxy, _ *rand.Rand) { p.Cut(FIN) }},
		{"cut in mid-flow", time.Second, 2 * time.Second, func(p *Proxy, r *rand.Rand) {
			p.Set(way(r), Line{CutAfter: 1000 + r.Int64N(500_000), Cut: How(r.IntN(2))})
		}},
		{"short black hole", 500 * time.Millisecond, 4 * time.Second, func(p *Proxy, r *rand.Rand) {
			p.Set(way(r), Line{Hole: true})
		}},
		{"long black hole", 11 * time.Second, 12 * time.Second, func(p *Proxy, r *rand.Rand) {
			p.Set(way(r), Line{Hole: true})
		}},
	}
}

// Torment sends one spell after the other through the proxy, as the seed says, until ctx ends. The lines are whole when it
// returns. log is told of each spell; nil tells nobody.
func (p *Proxy) Torment(ctx context.Context, seed uint64, weather []Spell, log func(string)) {
	defer p.Heal()
	r := rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15))
	var order []int // each spell once before one comes again
	for ctx.Err() == nil {
		if len(order) == 0 {
			order = r.Perm(len(weather))
		}
		spell := weather[order[0]]
		order = order[1:]
		lasts := spell.Least + time.Duration(r.Int64N(int64(spell.Most-spell.Least)+1))
		spell.Strike(p, r)
		if log != nil {
			up, _ := p.line(Up)
			down, _ := p.line(Down)
			log(fmt.Sprintf("%s for %s (up: %s; down: %s)", spell.Name, lasts.Round(time.Millisecond), up, down))
		}
		over := time.NewTimer(lasts)
		select {
		case <-over.C:
		case <-ctx.Done():
		}
		over.Stop()
		p.Heal()
	}
}

// Seed is the one that text names, so that a schedule can be had again; without text a new one.
func Seed(text string) (uint64, error) {
	if text == "" {
		return rand.Uint64N(1 << 32), nil
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("a seed is a number: %w", err)
	}
	return seed, nil
}

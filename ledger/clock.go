package ledger

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"evidence-ledger/verify/syntax"
)

// maxStep is how far the node's clock may step, or lie behind the newest
// entry, before nothing is appended any more.
const maxStep = 60 * time.Second

// Clock is the node's time. Elapsed does not stop while the machine sleeps and
// is not set by anybody (CLOCK_BOOTTIME).
type Clock struct {
	Now     func() time.Time
	Elapsed func() time.Duration
	// Accept lets an operator confirm a clock that seems wrong.
	Accept bool
}

// SystemClock is the machine's clock.
func SystemClock() Clock {
	return Clock{Now: time.Now, Elapsed: func() time.Duration {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
			panic("clock_gettime(CLOCK_BOOTTIME): " + err.Error()) // every Linux since 2.6.39 has it
		}
		return time.Duration(ts.Nano())
	}}
}

// ClockError says why nothing is appended just now.
type ClockError struct{ Why string }

func (e *ClockError) Error() string {
	return e.Why + "; nothing is appended until the clock is right again (an operator confirms a clock that is right with `ledger serve --accept-clock`)"
}

// clockGuard compares the clock with itself: it must go on by as much as has
// elapsed. Small steps back make the next entry repeat the last time.
type clockGuard struct {
	wall    time.Time
	elapsed time.Duration
	started bool
}

func (g *clockGuard) now(c Clock, last time.Time) (time.Time, error) {
	wall, elapsed := c.Now(), c.Elapsed()
	if c.Accept {
		return wall, nil
	}
	if g.started {
		expected := g.wall.Add(elapsed - g.elapsed)
		if off := wall.Sub(expected); off > maxStep || off < -maxStep {
			return wall, &ClockError{fmt.Sprintf("the clock says %s, by what has elapsed it is %s", syntax.FormatMicros(wall), syntax.FormatMicros(expected))}
		}
	} else if behind := last.Sub(wall); behind > maxStep {
		return wall, &ClockError{fmt.Sprintf("the clock says %s, the newest entry was logged at %s", syntax.FormatMicros(wall), syntax.FormatMicros(last))}
	}
	g.wall, g.elapsed, g.started = wall, elapsed, true
	return wall, nil
}

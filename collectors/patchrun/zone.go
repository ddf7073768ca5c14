package patchrun

import (
	"slices"
	"time"
)

// readings returns the instants at which a clock in zone shows the given wall
// time, the earliest first: one as a rule, two in the hour that comes twice when
// summer time ends. A time that no clock showed (the hour left out in spring; a
// host whose zone was set wrongly) has one reading too, the standard library's.
func readings(wall time.Time, zone *time.Location) []time.Time {
	guess := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, zone)
	var found []time.Time
	for _, near := range []time.Time{guess.Add(-12 * time.Hour), guess, guess.Add(12 * time.Hour)} {
		_, offset := near.Zone()
		t := wall.Add(-time.Duration(offset) * time.Second).In(zone)
		if t.Format(time.DateTime) == wall.Format(time.DateTime) {
			found = append(found, t.UTC())
		}
	}
	if len(found) == 0 {
		return []time.Time{guess.UTC()}
	}
	slices.SortFunc(found, time.Time.Compare)
	return slices.CompactFunc(found, time.Time.Equal)
}

// instant chooses among the readings of a wall time the first one that is not
// before what the log tells of earlier; where all are (the clock was set back),
// the first.
func instant(wall time.Time, zone *time.Location, notBefore time.Time) time.Time {
	all := readings(wall, zone)
	for _, t := range all {
		if !t.Before(notBefore) {
			return t
		}
	}
	return all[0]
}

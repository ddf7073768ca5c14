package bus

import (
	"fmt"
	"log/slog"
	"strings"
)

// serverLog gives the server's log to slog. What nats-server calls fatal ends
// no process here: Start returns it as its error.
type serverLog struct {
	log   *slog.Logger
	fatal chan string
}

func text(format string, v []any) string { return strings.TrimSpace(fmt.Sprintf(format, v...)) }

// Noticef is at level debug: what matters of a start and stop the node says
// itself.
func (l *serverLog) Noticef(format string, v ...any) { l.log.Debug(text(format, v)) }
func (l *serverLog) Warnf(format string, v ...any)   { l.log.Warn(text(format, v)) }
func (l *serverLog) Errorf(format string, v ...any)  { l.log.Error(text(format, v)) }
func (l *serverLog) Debugf(format string, v ...any)  { l.log.Debug(text(format, v)) }
func (l *serverLog) Tracef(format string, v ...any)  { l.log.Debug(text(format, v)) }

func (l *serverLog) Fatalf(format string, v ...any) {
	l.log.Error(text(format, v))
	select {
	case l.fatal <- text(format, v):
	default:
	}
}

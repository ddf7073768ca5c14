package node

import "time"

// SetAnswerWait shortens the wait for a node that does not answer.
func SetAnswerWait(d time.Duration) (restore func()) {
	old := answerWait
	answerWait = d
	return func() { answerWait = old }
}

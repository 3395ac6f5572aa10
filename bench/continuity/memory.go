package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// memory looks at how much members of a cluster take.
type memory struct {
	cancel context.CancelFunc
	over   chan struct{}

	mu   sync.Mutex // protects following field
	most []int64    // bytes of each
}

func watchMemory(members []*member) *memory {
	ctx, cancel := context.WithCancel(context.Background())
	m := &memory{cancel: cancel, over: make(chan struct{}), most: make([]int64, len(members))}
	go func() {
		defer close(m.over)
		for ctx.Err() == nil {
			m.look(members)
			rest(ctx, 200*time.Millisecond)
		}
	}()
	return m
}

func (m *memory) look(members []*member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, one := range members {
		m.most[i] = max(m.most[i], resident(one.alive().PID()))
	}
}

func (m *memory) stop() {
	m.cancel()
	<-m.over
}

// String is the most that each took.
func (m *memory) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []string
	for _, bytes := range m.most {
		list = append(list, fmt.Sprintf("%d MiB", bytes>>20))
	}
	return "at most " + strings.Join(list, ", ")
}

package main

import (
	"errors"
	"fmt"
	"math"
	"time"

	options_pb "github.com/xiaonanln/goverse/proto/goverse"
)

// typeOption is one option of package object: a call of a function, perhaps with an
// argument.
type typeOption struct {
	function string
	argument string // of package object, if it is one of its names
	interval time.Duration
	number   uint32
}

// typeOptions are what the service's options come to.
func (s *service) typeOptions() (list []typeOption, errs []error) {
	o := s.options
	add := func(option typeOption, err error) {
		list = append(list, option)
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(o.ProtoReflect().GetUnknown()) > 0 {
		return nil, []error{errors.New("option (goverse.object) says things that are not known here; upgrade protoc-gen-go-goverse")}
	}
	switch o.Mode {
	case options_pb.ObjectOptions_SEQUENTIAL:
	case options_pb.ObjectOptions_CONCURRENT:
		add(typeOption{function: "WithMode", argument: "Concurrent"}, nil)
	default:
		errs = append(errs, fmt.Errorf("mode %d is not known here; upgrade protoc-gen-go-goverse", o.Mode))
	}
	switch o.Durability {
	case options_pb.ObjectOptions_DEFAULT:
	case options_pb.ObjectOptions_DURABLE:
		add(typeOption{function: "WithDurability", argument: "Durable"}, nil)
	case options_pb.ObjectOptions_VOLATILE:
		add(typeOption{function: "WithDurability", argument: "Volatile"}, nil)
	default:
		errs = append(errs, fmt.Errorf("durability %d is not known here; upgrade protoc-gen-go-goverse", o.Durability))
	}
	if o.SaveEvery != "" {
		d, err := interval("save_every", o.SaveEvery)
		add(typeOption{function: "WithDurability", argument: "Periodic", interval: d}, err)
		if o.Durability != options_pb.ObjectOptions_DEFAULT {
			errs = append(errs, fmt.Errorf("save_every and durability %v exclude each other", o.Durability))
		}
	}
	if o.IdleTimeout == "never" {
		add(typeOption{function: "WithIdleTimeout", interval: -1}, nil)
	} else if o.IdleTimeout != "" {
		d, err := interval("idle_timeout", o.IdleTimeout)
		add(typeOption{function: "WithIdleTimeout", interval: d}, err)
	}
	if o.MaxQueue > math.MaxInt32 {
		errs = append(errs, fmt.Errorf("max_queue: at most %d calls can wait", math.MaxInt32))
	} else if o.MaxQueue > 0 {
		add(typeOption{function: "WithMaxQueue", number: o.MaxQueue}, nil)
	}
	if o.MustCreate {
		add(typeOption{function: "MustCreate"}, nil)
	}
	if o.Transactional {
		if o.Mode != options_pb.ObjectOptions_SEQUENTIAL {
			errs = append(errs, errors.New("transactional and mode CONCURRENT exclude each other: methods that run together cannot be undone one by one"))
		}
		add(typeOption{function: "Transactional"}, nil)
	}
	return list, errs
}

func interval(what, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf(`%s is %q; write a time above zero, as "90s" or "1h30m"`, what, text)
	}
	return d, nil
}

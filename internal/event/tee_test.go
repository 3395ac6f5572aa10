package event

import (
	"reflect"
	"testing"
)

// Every field of Listener must survive Tee, so that a new event cannot be forgotten there.
func TestTeeCarriesEveryEvent(t *testing.T) {
	var heard int
	var l Listener
	v := reflect.ValueOf(&l).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		f.Set(reflect.MakeFunc(f.Type(), func([]reflect.Value) []reflect.Value { heard++; return nil }))
	}
	both := reflect.ValueOf(Tee(l, Listener{}, l))
	for i := range both.NumField() {
		f := both.Field(i)
		if f.IsNil() {
			t.Fatalf("Tee loses %s", both.Type().Field(i).Name)
		}
		heard = 0
		f.Call([]reflect.Value{reflect.Zero(f.Type().In(0))})
		if heard != 2 {
			t.Errorf("%s was heard %d times by two listeners", both.Type().Field(i).Name, heard)
		}
	}
	if alone := reflect.ValueOf(Tee(Listener{}, Listener{})); !alone.IsZero() {
		t.Error("Tee of nobody must be nobody")
	}
}

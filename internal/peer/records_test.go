package peer

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// shelf is records made of functions.
type shelf struct {
	list func(objType, after string, limit int) ([]object.Listed, error)
	show func(ref object.Ref) (object.Record, error)
}

func (s shelf) ListObjects(_ context.Context, objType, after string, limit int) ([]object.Listed, error) {
	return s.list(objType, after, limit)
}

func (s shelf) StoredState(_ context.Context, ref object.Ref) (object.Record, error) {
	return s.show(ref)
}

func TestRecordsCross(t *testing.T) {
	exercise(t, func(t *testing.T, w world) {
		made := time.Unix(1700000000, 123456789)
		page := []object.Listed{
			{Ref: object.Ref{Type: "Room", ID: "a/ü"}, Version: 1 << 60, Created: made, Updated: made.Add(time.Hour)},
			{Ref: object.Ref{Type: "Room", ID: "b"}},
		}
		record := object.Record{Data: []byte(`{"a":1}`), Version: 7, Created: made}
		limited := 2
		conn := w.connect(t, fake{Records: shelf{
			func(objType, after string, limit int) ([]object.Listed, error) {
				if objType != "Room" || after != "a" || limit != limited {
					t.Errorf("asked for %s after %s, %d", objType, after, limit)
				}
				return page, nil
			},
			func(ref object.Ref) (object.Record, error) {
				if ref != page[0].Ref {
					t.Errorf("asked for %v", ref)
				}
				return record, nil
			},
		}})
		got, err := conn.ListObjects(t.Context(), "Room", "a", 2)
		if err != nil || len(got) != 2 || !got[0].Created.Equal(made) || !got[0].Updated.Equal(made.Add(time.Hour)) || !reflect.DeepEqual(got[1], page[1]) {
			t.Errorf("%v, %v", got, err)
		}
		if len(got) > 0 && (got[0].Ref != page[0].Ref || got[0].Version != page[0].Version) {
			t.Errorf("%v", got[0])
		}
		one, err := conn.StoredState(t.Context(), page[0].Ref)
		if err != nil || string(one.Data) != string(record.Data) || one.Version != 7 || !one.Created.Equal(made) {
			t.Errorf("%v, %v", one, err)
		}
		if limited = -1; w.wire { // a number that would come round to a good one
			if _, err := conn.ListObjects(t.Context(), "Room", "a", 1<<32+2); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestRecordsThatCannotCross(t *testing.T) {
	exerciseWire(t, func(t *testing.T, w world) {
		conn := w.connect(t, fake{Records: shelf{
			func(_, after string, _ int) ([]object.Listed, error) {
				switch after {
				case "fault":
					return nil, fault.New(fault.NotReady, "no store").On("ListObjects", "Room")
				case "text":
					return []object.Listed{{Ref: object.Ref{ID: "\xff"}}}, nil
				}
				return []object.Listed{{Ref: object.Ref{ID: strings.Repeat("x", maxMessage)}}}, nil
			},
			func(ref object.Ref) (object.Record, error) {
				if ref.ID == "fault" {
					return object.Record{}, fault.New(fault.NotFound, "nothing")
				}
				return object.Record{Data: make([]byte, maxMessage)}, nil
			},
		}})
		for after, kind := range map[string]fault.Kind{"fault": fault.NotReady, "text": fault.StoreFailed, "": fault.TooLarge, "\xff": fault.Invalid} {
			_, err := conn.ListObjects(t.Context(), "Room", after, 0)
			want(t, err, kind, fault.NotExecuted)
		}
		for id, kind := range map[string]fault.Kind{"fault": fault.NotFound, "": fault.TooLarge, "\xff": fault.Invalid} {
			_, err := conn.StoredState(t.Context(), object.Ref{Type: "Room", ID: id})
			want(t, err, kind, fault.NotExecuted)
		}
	})
}

func TestRecordsOfAClosedConnection(t *testing.T) {
	exercise(t, func(t *testing.T, w world) {
		conn := w.connect(t, fake{})
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := conn.ListObjects(t.Context(), "Room", "", 0)
		if err == nil || fault.OutcomeOf(err) == fault.Executed || strings.Contains(err.Error(), "no Goverse node") {
			t.Error(err)
		}
		if _, err := conn.StoredState(t.Context(), object.Ref{Type: "Room", ID: "a"}); err == nil {
			t.Error("answered")
		}
	})
}

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

// teller is a catalog made of a function.
type teller func(known string) (object.Catalog, error)

func (f teller) Catalog(_ context.Context, known string) (object.Catalog, error) { return f(known) }

func TestCatalogCrosses(t *testing.T) {
	exercise(t, func(t *testing.T, w world) {
		all := object.Catalog{
			Digest: "d1", Since: time.Unix(1700000000, 5), Files: []byte{1, 2, 3},
			Types: []object.CatalogType{
				{Name: "Empty"},
				{Name: "Room", MustCreate: true, Methods: []object.CatalogMethod{
					{Name: "History", ReadOnly: true, Request: "chat.Since", Response: "chat.Messages"}, {Name: "Say", Request: "chat.Message", Response: "chat.Empty"},
				}},
			},
		}
		conn := w.connect(t, fake{Cataloger: teller(func(known string) (object.Catalog, error) { return all.Unless(known), nil })})
		got, err := conn.Catalog(t.Context(), "another")
		if err != nil || !got.Since.Equal(all.Since) {
			t.Fatal(got, err)
		}
		if got.Since = all.Since; !reflect.DeepEqual(got, all) {
			t.Errorf("%+v", got)
		}
		if got, err = conn.Catalog(t.Context(), "d1"); err != nil || got.Digest != "d1" || got.Types != nil || got.Files != nil {
			t.Errorf("known already: %+v, %v", got, err)
		}
	})
}

func TestCatalogThatCannotCross(t *testing.T) {
	exerciseWire(t, func(t *testing.T, w world) {
		conn := w.connect(t, fake{Cataloger: teller(func(known string) (object.Catalog, error) {
			if known == "fault" {
				return object.Catalog{}, fault.New(fault.NotReady, "not yet")
			}
			return object.Catalog{Files: make([]byte, maxMessage)}, nil
		})})
		for known, kind := range map[string]fault.Kind{"fault": fault.NotReady, "": fault.TooLarge, "\xff": fault.Invalid} {
			_, err := conn.Catalog(t.Context(), known)
			want(t, err, kind, fault.NotExecuted)
		}
	})
}

func TestCatalogOfAClosedConnection(t *testing.T) {
	exercise(t, func(t *testing.T, w world) {
		conn := w.connect(t, fake{})
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Catalog(t.Context(), ""); err == nil || fault.OutcomeOf(err) == fault.Executed || strings.Contains(err.Error(), "no Goverse node") {
			t.Error(err)
		}
	})
}

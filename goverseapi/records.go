package goverseapi

import (
	"context"

	"github.com/xiaonanln/goverse/internal/fault"
	"github.com/xiaonanln/goverse/object"
)

// StoredObject is one line of ListObjects.
type StoredObject = object.Listed

// ListObjects lists stored objects of a type in the order of their ids, compared as
// bytes, after an id ("" is before all), at most limit: 1 to 1000, or 0 for 100. No
// object comes to life for it. What is Volatile is not there, and what is Periodic as it
// was saved last.
func ListObjects(ctx context.Context, objType, after string, limit int) ([]StoredObject, error) {
	records, err := recordsOf(ctx)
	if err != nil {
		return nil, fault.Of(err).On("ListObjects", objType)
	}
	return records.ListObjects(ctx, objType, after, limit)
}

// StoredState returns an object's state as it is stored, as JSON with its "@type",
// without bringing the object to life. ErrNotFound: it has none.
func StoredState(ctx context.Context, objType, id string) ([]byte, error) {
	ref := object.Ref{Type: objType, ID: id}
	records, err := recordsOf(ctx)
	if err != nil {
		return nil, fault.Of(err).On("StoredState", ref.String())
	}
	record, err := records.StoredState(ctx, ref)
	return record.Data, err
}

func recordsOf(ctx context.Context) (object.Records, error) {
	rt, err := runtimeOf(ctx)
	if err != nil {
		return nil, err
	}
	if r, ok := rt.(object.Records); ok {
		return r, nil
	}
	return nil, fault.New(fault.Invalid, "there is no store here: a hook of OnCommit uses its transaction")
}

package inspector

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/xiaonanln/goverse/cluster/diagnosis"
	"github.com/xiaonanln/goverse/object"
)

type explainer func(v *diagnosis.Picture, r *http.Request) (*diagnosis.Explanation, error)

// explain answers with what explainer says of the newest view.
func (i *Inspector) explain(how explainer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := i.view.Load()
		if v == nil || v.Meta == nil {
			fail(w, http.StatusServiceUnavailable, "%s", nothingSeen)
			return
		}
		e, err := how(v, r)
		if err != nil {
			fail(w, http.StatusNotFound, "%v", err)
			return
		}
		write(w, http.StatusOK, encode(struct {
			*diagnosis.Explanation
			Order []string `json:"order"` // of the facts
		}{e, e.Order()}))
	}
}

func explainShard(v *diagnosis.Picture, r *http.Request) (*diagnosis.Explanation, error) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 0 || n >= v.Table.Len() {
		return nil, fmt.Errorf("there is no shard %q: the cluster has 0 to %d", r.PathValue("n"), v.Table.Len()-1)
	}
	return diagnosis.Shard(v, n), nil
}

func explainObject(v *diagnosis.Picture, r *http.Request) (*diagnosis.Explanation, error) {
	ref := object.Ref{Type: r.PathValue("type"), ID: r.PathValue("id")}
	if err := errors.Join(object.ValidName(ref.Type), object.ValidID(ref.ID)); err != nil {
		return nil, fmt.Errorf("%s/%s: %w", ref.Type, ref.ID, err)
	}
	return diagnosis.Object(v, ref), nil
}

func explainNode(v *diagnosis.Picture, r *http.Request) (*diagnosis.Explanation, error) {
	address := r.PathValue("address")
	if e, known := diagnosis.Node(v, address); known {
		return e, nil
	}
	return diagnosis.NoNode(v, address), nil
}

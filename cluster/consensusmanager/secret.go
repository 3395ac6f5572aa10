package consensusmanager

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/secure"
)

// decodeSecret reads P/secret. No error of it shows anything of the value.
func decodeSecret(raw []byte) (secure.Secret, error) {
	var record struct {
		Secret string `json:"secret"`
	}
	if json.Unmarshal(raw, &record) != nil {
		return secure.Secret{}, errors.New("not JSON as it should be")
	}
	return secure.ParseSecret(record.Secret)
}

func encodeSecret(s secure.Secret) []byte {
	return encodeJSON(map[string]string{"secret": s.Reveal()})
}

// Secret is what the processes of the cluster prove to each other that they know; the
// zero value while there is none.
func (v *View) Secret() secure.Secret { return v.secret }

// Secret waits for the cluster's secret within ctx. Whoever can read etcd has it.
func (m *Manager) Secret(ctx context.Context) (secure.Secret, error) {
	for v := m.View(); ; v = m.View() {
		if v.secret.Known() {
			return v.secret, nil
		}
		select {
		case <-v.Superseded():
		case <-ctx.Done():
			return secure.Secret{}, ctx.Err()
		}
	}
}

// secretTxn is T-SECRET: seen is the item that stands in the view, or nil. Of several
// that are written at once the first counts.
func (w writer) secretTxn(seen *etcdmanager.Item, s secure.Secret) etcdmanager.Txn {
	guard := etcdmanager.Absent(w.keys.secret())
	if seen != nil {
		guard = etcdmanager.ValueIs(w.keys.secret(), seen.Value)
	}
	return etcdmanager.Txn{
		If:   []etcdmanager.Guard{w.sameCluster(), w.alive(), guard},
		Then: []etcdmanager.Op{etcdmanager.Put(w.keys.secret(), encodeSecret(s), 0)},
	}
}

// keepSecret sees to it that the cluster has a secret for as long as r holds: it writes
// one where there is none or nobody can read it.
func (m *Manager) keepSecret(ctx context.Context, r *Registration) {
	for attempt := 0; ctx.Err() == nil; {
		v := m.View()
		if v.Revision < r.revision || v.Meta == nil || !v.Meta.Same(r.Meta) || v.secret.Known() && v.damage[m.keys.secret()] == "" {
			select {
			case <-v.Superseded():
				attempt = 0
			case <-r.Lost():
				return
			case <-ctx.Done():
			}
			continue
		}
		var seen *etcdmanager.Item
		if item, ok := v.values[m.keys.secret()]; ok {
			seen = &item
		}
		result, err := r.commit(ctx, r.w.secretTxn(seen, secure.NewSecret()))
		switch {
		case err != nil && ctx.Err() == nil:
			m.notice(event.Warn, "the cluster's secret is not written yet, and nodes and gates that do not know it wait for it", err)
		case err == nil && result.Held:
			m.step("secret", "drawn for this cluster", nil)
		}
		pause(ctx, v, joinBackoff.Delay(attempt, 1))
		attempt++
	}
}

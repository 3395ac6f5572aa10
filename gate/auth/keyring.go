package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"github.com/xiaonanln/goverse/internal/fault"
)

// When keys are read anew.
const (
	fileAge     = 5 * time.Second // a file's
	urlAge      = 5 * time.Minute // a URL's
	betweenGets = 5 * time.Second // at least, whatever tokens say
	fetchTime   = 4 * time.Second
)

// keyring is an issuer's keys as they were read last. Who needs newer ones reads them;
// there is no goroutine that does.
type keyring struct {
	read func(context.Context) ([]byte, error)
	name string // the source's
	age  time.Duration
	warn func(string, error)

	now     atomic.Pointer[keys]
	reading chan struct{} // has a token while nobody reads
	tried   time.Time     // the last attempt's end; of who has the token
}

// keys are immutable.
type keys struct {
	list []key
	at   time.Time
}

func newKeyring(cfg JWTConfig) *keyring {
	r := &keyring{name: cfg.KeysFile, age: fileAge, warn: cfg.Warn, reading: make(chan struct{}, 1)}
	r.read = func(context.Context) ([]byte, error) { return readFile(cfg.KeysFile) }
	if cfg.KeysURL != "" {
		client := cfg.Client
		if client == nil {
			client = &http.Client{Timeout: fetchTime, CheckRedirect: safely}
		}
		r.name, r.age = cfg.KeysURL, urlAge
		r.read = func(ctx context.Context) ([]byte, error) { return fetch(ctx, client, cfg.KeysURL) }
	}
	r.reading <- struct{}{}
	return r
}

// find is the key of an id; "" is the only one there is. A key that was taken out of the
// set is found no more as soon as the set was read anew.
func (r *keyring) find(ctx context.Context, id string) (*key, error) {
	switch k := r.now.Load(); {
	case k == nil:
		if err := r.refresh(ctx, r.age); err != nil {
			return nil, fault.New(fault.NotReady, "the keys of the issuer cannot be read now")
		}
	case time.Since(k.at) >= r.age && len(r.reading) > 0: // one reads, the others go on with what there is
		_ = r.refresh(ctx, r.age) // then too, and it was told
	}
	if k := r.now.Load().find(id); k != nil {
		return k, nil
	}
	if id != "" && len(r.reading) == 0 {
		// Whoever makes key ids up does not have everybody's places wait for the issuer.
		return nil, fault.New(fault.NotReady, "the token is signed with a key that is not known here, and the keys of the issuer are being read; come again in a moment")
	}
	if id != "" && r.refresh(ctx, betweenGets) == nil {
		if k := r.now.Load().find(id); k != nil {
			return k, nil
		}
	}
	return nil, refuse("the token is signed with a key that is not known here")
}

func (k *keys) find(id string) *key {
	if k == nil || id == "" && len(k.list) != 1 {
		return nil
	}
	for i := range k.list {
		if id == "" || k.list[i].id == id {
			return &k.list[i]
		}
	}
	return nil
}

// refresh reads the keys unless they are younger than age, or were tried a moment ago.
// Many who want it wait for one.
func (r *keyring) refresh(ctx context.Context, age time.Duration) error {
	select {
	case <-r.reading:
		defer func() { r.reading <- struct{}{} }()
	case <-ctx.Done():
		return fault.Waited(ctx, "the keys of the issuer are being read")
	}
	if k := r.now.Load(); k != nil && age > 0 && time.Since(k.at) < age {
		return nil
	}
	if !r.tried.IsZero() && time.Since(r.tried) < betweenGets {
		return errJustTried
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime) // for all who wait
	defer cancel()
	text, err := r.read(ctx)
	var list []key
	if err == nil {
		list, err = parseKeys(text)
	}
	r.tried = time.Now()
	if err != nil {
		err = fmt.Errorf("the keys of the issuer cannot be read from %s: %w", r.name, err)
		r.warn("tokens are checked with the keys that were read last, if there are any", err)
		return err
	}
	r.now.Store(&keys{list, r.tried})
	return nil
}

var errJustTried = errors.New("that was tried a moment ago")

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxKeyBytes+1))
}

func fetch(ctx context.Context, client *http.Client, from string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxKeyBytes+1))
}

// checkURL refuses keys that anybody on the way could change.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return fmt.Errorf("KeysURL: %w", err)
	case !isSafe(u):
		return fmt.Errorf("KeysURL is %q; give an https URL: whoever could change the keys on their way could be anybody", text)
	}
	return nil
}

func isSafe(u *url.URL) bool {
	host := u.Hostname()
	return host != "" && (u.Scheme == "https" || u.Scheme == "http" && (host == "localhost" || net.ParseIP(host).IsLoopback()))
}

// safely follows no redirect to where keys could be changed.
func safely(r *http.Request, via []*http.Request) error {
	if !isSafe(r.URL) || len(via) > 5 {
		return errors.New("the redirect does not lead to an https URL")
	}
	return nil
}

// ownFault is the fault that find or key returned, in whatever the parser put around it.
func ownFault(err error) error {
	var e *fault.Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

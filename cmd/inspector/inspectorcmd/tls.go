package inspectorcmd

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"

	"google.golang.org/grpc/credentials"

	"github.com/xiaonanln/goverse/cluster/etcdmanager"
	"github.com/xiaonanln/goverse/internal/conf"
	"github.com/xiaonanln/goverse/internal/event"
	"github.com/xiaonanln/goverse/internal/secure"
)

// variables are the flags that may come from the environment.
var variables = []string{"etcd", "etcd-tls-cert", "etcd-tls-key", "etcd-tls-ca"}

// HasVariable says whether a flag may come from the environment, by the name that
// conf.Variable gives it.
func HasVariable(flag string) bool { return slices.Contains(variables, flag) }

// secure completes the flags for etcd from the environment, and refuses plain text if it
// is to.
func (o *options) secure(fs *flag.FlagSet) error {
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for _, name := range variables {
		if value := os.Getenv(conf.Variable(name)); value != "" && !given[name] {
			_ = fs.Set(name, value) // a text: it cannot fail
		}
	}
	if !o.requireTLS {
		return nil
	}
	var errs []error
	for _, e := range etcdmanager.Endpoints(o.etcd) {
		errs = append(errs, secure.Refused(secure.Exposed(secure.Link{What: "the connection to etcd", Address: e, Encrypted: o.etcdTLS.Given(), Mend: "give --etcd-tls-ca, and --etcd-tls-cert and --etcd-tls-key if etcd wants to know its clients"})))
	}
	return errors.Join(errs...)
}

// etcdCredentials are nil for plain text.
func (o *options) etcdCredentials(on event.Listener) (credentials.TransportCredentials, error) {
	if !o.etcdTLS.Given() {
		return nil, nil
	}
	keys, err := secure.Open(o.etcdTLS, on)
	if err != nil {
		return nil, fmt.Errorf("TLS to etcd: %w", err)
	}
	return keys.Credentials(), nil
}

func (o *options) scheme() string {
	if o.tls.Given() {
		return "https"
	}
	return "http"
}

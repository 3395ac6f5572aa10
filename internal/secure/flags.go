package secure

import "flag"

// Flags defines PREFIX-cert, PREFIX-key and PREFIX-ca, which name c's files. what says
// whose certificate it is, and ca whom the authority is to vouch for.
func (c *TLSConfig) Flags(fs *flag.FlagSet, prefix, what, ca string) {
	fs.StringVar(&c.CertFile, prefix+"-cert", "", "`file` with the certificate "+what+", in PEM")
	fs.StringVar(&c.KeyFile, prefix+"-key", "", "`file` with its key")
	fs.StringVar(&c.CAFile, prefix+"-ca", "", "`file` with the authority that "+ca)
}

// ClusterFlags defines the flags for what nodes and gates show each other, and etcd;
// require takes whether plain text is refused.
func ClusterFlags(fs *flag.FlagSet, cluster, etcd *TLSConfig, require *bool) {
	cluster.Flags(fs, "tls", "that this process shows other nodes and gates", "all nodes' and gates' certificates are from")
	etcd.Flags(fs, "etcd-tls", "that this process shows etcd, if etcd wants one", "etcd's certificate is from")
	fs.BoolVar(require, "require-tls", false, "do not start where anything would be in plain text beyond this machine")
}

// DoorFlags defines the flags for what a gate shows its clients.
func DoorFlags(fs *flag.FlagSet, doors *TLSConfig) {
	doors.Flags(fs, "client-tls", "that the gate shows its clients (default: --tls-cert)", "every client must have a certificate from (default: clients need none)")
}

// Package check holds what is in deploy/ against the schemas of those who read it, and
// against the programs that it starts, and what these tell of themselves against Prometheus'
// own parsers. It is a module of its own: nobody else needs these schemas.
package check

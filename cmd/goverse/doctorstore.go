package main

import (
	"context"

	"github.com/xiaonanln/goverse/cluster/consensusmanager"
	"github.com/xiaonanln/goverse/util/postgres"
)

// store judges the database at url, or that of the environment, as the store of the
// cluster. Which one the nodes have they do not tell.
func (p *program) store(ctx context.Context, x *examination, v *picture, url string) {
	if v.Meta == nil {
		return
	}
	if url = p.databaseURL(url); url == "" {
		if len(v.Members()) > 1 && v.Meta.Store != consensusmanager.NoStore { // which several nodes can share
			x.note("store", "give --postgres or "+postgresVariable+", or look with goverse db status where the database is reached", "it was not looked at: no database is named")
		}
		return
	}
	var is *postgres.Identity
	err := p.withDB(ctx, url, func(ctx context.Context, db *postgres.DB) (err error) {
		is, err = db.Identity(ctx)
		return err
	})
	if err != nil {
		x.wrong("store", "start it, or name the database that the nodes have; goverse db status and goverse db verify say more", "%v", err)
		return
	}
	x.identity(is, v.Meta)
}

// identity judges whether a database is the store of a cluster.
func (x *examination) identity(is *postgres.Identity, of *consensusmanager.Meta) {
	switch {
	case is.Schema == 0:
		x.wrong("store", "goverse db init makes them; or name the database that the nodes have", "%s has no tables of Goverse", is.Database)
	case is.Schema != is.SchemaWanted:
		x.wrong("store", "goverse db init brings them up to date", "the tables in %s are of version %d, and this program works with %d", is.Database, is.Schema, is.SchemaWanted)
	case is.StoreID != of.Store:
		x.wrong("store", "name the database that the nodes have", "%s is the store %s, and the cluster's is %s", is.Database, is.StoreID, of.Store)
	case is.Cluster != "" && is.Cluster != of.Cluster:
		x.wrong("store", "one database serves one cluster: look which etcd and prefix the others have, and stop one of the two", "%s belongs to the cluster %s, and this one is %s", is.Database, is.Cluster, of.Cluster)
	default:
		x.well("store", "%s answers, and is this cluster's", is.Database)
	}
}

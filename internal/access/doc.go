// Package access judges the access lists of Windows: whether anybody but a few known accounts can get at a file or a folder, and
// what an administrator does about it. It knows the accounts that services have. On other systems it is empty; modes say it all
// there. What is to be private, and for whom, its users say (agent/state, internal/service).
//
//	who := access.List{system, admins}
//	fault, err := who.Judge(path, access.Read|access.Change, 0)
package access

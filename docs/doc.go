// Package docs holds the manual, and the tests that keep it true: links lead to files and headings, the commands and
// flags that a page names exist in the programs, the references of settings are made from the comments of the Config
// structs, and tables of errors and record fields have them all. It is not linked by any program and has no code of its
// own. After a change of a setting or its comment:
//
//	go test ./docs -run TestSettings -update
package docs

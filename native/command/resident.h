/* The resident process of a store's service, which runs short commands without an interpreter's start. */
#ifndef CORRAL_RESIDENT_H
#define CORRAL_RESIDENT_H

/* Has the command run there, with this process's descriptors, directory, limits, umask and environment. Returns its exit
 * code; or -1, and nothing was done, where that is not for certain the same as running it here: the caller then does. */
int run_resident(int argc, char **argv);

#endif

# phstore stand-alone: library, tools, tests. Built with the waf that comes
# in Samba's source, so that the library builds with the same tool alone and
# inside smbd. scripts/build calls it; see HACKING.md.
#
# SPDX-License-Identifier: LGPL-3.0-or-later
#
# What is built is found, not listed: a new .c file in a folder below needs
# no change here.
#
#   lib/phstore/*.c backends/local/*.c   libphstore.a, with
#   backends/ctdb/*.c                    what smbd's volatile values are
#   backends/ctdb/client/*.c             the client of ctdbd
#   tools/phstore*.c                     phstore
#   backends/phstored/*.c, ctdb/core/    phstored
#   tests/{unit,crash,cluster}/*.c       a file with main() is a program of
#                                        its name, the others are helpers
#                                        linked into all programs there
#   tests/fuzz/*.c                       the same with LLVMFuzzerTestOneInput,
#                                        only when configured --fuzz
#   bench/*.c                            the same with main()
#   bench/peers/*.c                      what storebench compares with
#   bench/preload/*.c                    shared objects for LD_PRELOAD
#
# Configured --ceph (build-ceph; needs librados and the SDK of object classes)
# the library and the tool know the backend rados, too, and there are
#
#   backends/rados/*.c                   in libphstore.a
#   backends/rados/cls/*.cc              libcls_phstore.so, for the OSDs
#   tests/ceph/*.c bench/ceph/*.c        the same with main()
#
# Nothing of smbd is built here: the hooks compile lib/ a second time, inside
# Samba's tree against the talloc and tevent of smbd itself.

import re

APPNAME = 'phstore'
VERSION = '0.1'
top = '.'
out = 'build'    # scripts/build names another one per variant

LIB_DIRS = ['lib/phstore', 'backends/local', 'backends/ctdb',
            'backends/ctdb/client']
PROGRAM_DIRS = ['tests/unit', 'tests/crash', 'tests/conformance',
                'tests/cluster', 'bench']
PEERS = [('LMDB', 'lmdb.h', 'lmdb'),
         ('SQLITE3', 'sqlite3.h', 'sqlite3'),
         ('ROCKSDB', 'rocksdb/c.h', 'rocksdb')]
CEPH_PROGRAM_DIRS = ['tests/conformance', 'tests/ceph', 'bench/ceph']


def options(opt):
    opt.load('compiler_c')
    opt.add_option('--sanitize', default='',
                   help='list for -fsanitize=, as address,undefined')
    opt.add_option('--release', action='store_true', default=False,
                   help='without the fault injection of the test build')
    opt.load('compiler_cxx')
    opt.add_option('--ceph', action='store_true', default=False,
                   help='with the backend rados and its object class')
    opt.add_option('--fuzz', action='store_true', default=False,
                   help='libFuzzer targets only (needs CC=clang)')


def configure(conf):
    conf.load('compiler_c')
    env = conf.env
    env.FUZZ = conf.options.fuzz
    env.RELEASE = conf.options.release
    env.CEPH = conf.options.ceph
    sanitize = conf.options.sanitize

    env.append_value('CFLAGS', [
        '-std=gnu11', '-g', '-O2', '-pthread', '-Wall', '-Wextra',
        '-Wmissing-prototypes', '-Wstrict-prototypes',
        # waf compiles in the build folder: __FILE__ from the top instead
        '-fmacro-prefix-map=../='])
    env.append_value('LINKFLAGS', ['-pthread'])
    env.append_value('DEFINES', ['_GNU_SOURCE='])
    if not env.RELEASE:
        env.append_value('CFLAGS', ['-Werror'])
        env.append_value('DEFINES', ['PHSTORE_TEST_BUILD'])
    if env.FUZZ:
        env.append_value('CFLAGS', ['-fsanitize=fuzzer-no-link'])
        sanitize = sanitize or 'address,undefined'
    if sanitize:
        flags = ['-fsanitize=' + sanitize, '-fno-sanitize-recover=all',
                 '-fno-omit-frame-pointer']
        env.append_value('CFLAGS', flags)
        env.append_value('LINKFLAGS', flags)

    for lib in ('talloc', 'tevent', 'tdb', 'zlib'):
        conf.check_cfg(package=lib, args=['--cflags', '--libs'],
                       uselib_store=lib.upper())
    if not env.RELEASE:
        conf.check_cfg(package='cmocka', args=['--cflags', '--libs'],
                       uselib_store='CMOCKA')
    conf.check_cc(lib='m', uselib_store='M')
    # peers of bench/storebench, each only if it is there
    for name, header, lib in PEERS:
        found = conf.check_cc(lib=lib, header_name=header,
                              uselib_store=name, mandatory=False)
        if found:
            env.append_value('DEFINES_' + name, ['HAVE_' + name])
    if env.CEPH:
        conf.load('compiler_cxx')
        conf.check_cc(lib='rados', header_name='rados/librados.h',
                      uselib_store='RADOS')
        env.append_value('DEFINES_RADOS', ['PHSTORE_WITH_RADOS'])
        env.append_value('CXXFLAGS', [
            # g++ defines it by itself
            '-U_GNU_SOURCE', '-std=c++17', '-g', '-O2', '-Wall', '-Wextra', '-Werror',
            '-fmacro-prefix-map=../='])


def build(bld):
    use = ['TALLOC', 'TEVENT', 'TDB', 'ZLIB', 'M']
    lib_dirs = list(LIB_DIRS)
    if bld.env.CEPH:
        lib_dirs.append('backends/rados')
        use.append('RADOS')
    includes = ['.'] + lib_dirs

    bld.stlib(
        target='phstore',
        name='libphstore',
        source=bld.path.ant_glob([d + '/*.c' for d in lib_dirs]),
        includes=includes,
        use=use)
    use = ['libphstore'] + use

    if bld.env.FUZZ:
        programs(bld, 'tests/fuzz', 'LLVMFuzzerTestOneInput', includes, use,
                 linkflags=['-fsanitize=fuzzer'])
        return

    tools = bld.path.ant_glob('tools/phstore*.c')
    if tools:
        bld.program(target='phstore', name='tool', source=tools,
                    includes=includes + ['tools'], use=use,
                    install_path=None)
    bld.program(target='phstored', name='daemon',
                source=bld.path.ant_glob(['backends/phstored/*.c',
                                          'backends/ctdb/core/*.c']),
                includes=includes + ['backends/phstored',
                                     'backends/ctdb/core'],
                use=use, install_path=None)
    if bld.env.CEPH:
        object_class(bld, includes)
    if bld.env.RELEASE:
        return
    if not bld.env.CEPH:
        peers = [name for name, _, _ in PEERS]
        bld.objects(target='bench/peers',
                    source=bld.path.ant_glob('bench/peers/*.c'),
                    includes=includes + ['bench'], use=peers + use)
    for folder in CEPH_PROGRAM_DIRS if bld.env.CEPH else PROGRAM_DIRS:
        more = ['bench/peers'] + peers if folder == 'bench' else []
        programs(bld, folder, 'main', includes, more + use + ['CMOCKA'])
    if bld.env.CEPH:
        return
    for node in bld.path.ant_glob('bench/preload/*.c'):
        lib = bld.shlib(target='bench/preload/' + node.name[:-2],
                        source=[node], install_path=None)
        lib.env.cshlib_PATTERN = '%s.so'


def object_class(bld, includes):
    """The OSD loads it by this very name."""
    bld.objects(target='cls_codec', features='c',
                source=['backends/rados/rados_codec.c'],
                includes=includes, cflags=['-fPIC'])
    lib = bld.shlib(target='cls_phstore', features='cxx cxxshlib',
                    source=bld.path.ant_glob('backends/rados/cls/*.cc'),
                    includes=includes, use=['cls_codec', 'ZLIB'],
                    install_path=None)
    lib.env.cxxshlib_PATTERN = 'lib%s.so'


def programs(bld, folder, entry, includes, use, **kw):
    """One program for each file of folder that defines the function entry."""
    begins = re.compile(r'^(int\s+)?%s\(' % entry, re.M)
    mains, helpers = [], []
    for node in bld.path.ant_glob(folder + '/*.c'):
        (mains if begins.search(node.read()) else helpers).append(node)
    if helpers:
        bld.objects(target=folder + '/helpers', source=helpers,
                    includes=includes + [folder], use=use,
                    defines=kw.get('defines', []))
        use = [folder + '/helpers'] + use
    for node in mains:
        bld.program(target='%s/%s' % (folder, node.name[:-2]), source=[node],
                    includes=includes + [folder], use=use,
                    install_path=None, **kw)

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Starts a PV guest in dom0 with nothing but libxenguest: no xenstore, no devices.
 *
 *     guest KERNEL INITRD MEGABYTES "COMMAND LINE"
 *
 * It prints what the guest writes on its console, and stays to do so: a guest whose
 * console ring is full waits.
 */
#define XC_WANT_COMPAT_MAP_FOREIGN_API /* xc_map_foreign_range() */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenguest.h>
#include <xen/io/console.h>

#define CHECK(call) \
	do { \
		if (call) { \
			perror(#call); \
			return 1; \
		} \
	} while (0)

int
main(int argc, char **argv)
{
	/* as libxl fills it for a PV guest of one vcpu (libxl_create.c, libxl__domain_make) */
	struct xen_domctl_createdomain config = {
		.handle = { 1 },
		.max_vcpus = 1,
		.max_evtchn_port = 1023,
		.max_grant_frames = 4,
		.max_maptrack_frames = 16,
		.grant_opts = XEN_DOMCTL_GRANT_version(1),
	};
	xentoollog_logger *log = (xentoollog_logger *)
	    xtl_createlogger_stdiostream(stderr, XTL_WARN, 0);
	xc_interface *xen = xc_interface_open(log, log, 0);
	struct xc_dom_image *image;
	struct xencons_interface *ring;
	unsigned megabytes = argc == 5 ? atoi(argv[3]) : 0;
	uint32_t id = 0;

	if (!xen || !megabytes)
		return 1;
	CHECK(xc_domain_create(xen, &id, &config));
	CHECK(xc_domain_max_vcpus(xen, id, 1));
	CHECK(xc_domain_setmaxmem(xen, id, megabytes * 1024 + 1024));

	if (!(image = xc_dom_allocate(xen, argv[4], NULL)))
		return 1;
	image->container_type = XC_DOM_PV_CONTAINER;
	image->console_evtchn = xc_evtchn_alloc_unbound(xen, id, 0);
	/* no xenstore_evtchn: the kernel takes itself for the one that has the store */
	CHECK(xc_dom_kernel_file(image, argv[1]));
	CHECK(xc_dom_module_file(image, argv[2], NULL));
	CHECK(xc_dom_boot_xen_init(image, xen, id));
	CHECK(xc_dom_parse_image(image));
	CHECK(xc_dom_mem_init(image, megabytes));
	CHECK(xc_dom_boot_mem_init(image));
	CHECK(xc_dom_build_image(image));
	CHECK(xc_dom_boot_image(image));
	ring = xc_map_foreign_range(xen, id, XC_PAGE_SIZE, PROT_READ | PROT_WRITE,
	    xc_dom_p2m(image, image->console_pfn));
	xc_dom_release(image);
	if (!ring)
		return 1;
	CHECK(xc_domain_unpause(xen, id));
	printf("guest: domain %u started\n", id);
	fflush(stdout);

	for (;; usleep(100000)) {
		while (ring->out_cons != ring->out_prod) {
			xen_rmb();
			putchar(ring->out[MASK_XENCONS_IDX(ring->out_cons, ring->out)]);
			xen_mb();
			ring->out_cons++;
		}
		fflush(stdout);
	}
}

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrAddressInUse is returned by Up when the machine already has a route into
// the cluster's address ranges.
var ErrAddressInUse = errors.New("the cluster's addresses are in use on this machine")

// Up makes the interface with its address and the Services' route, or repairs
// what is missing of them.
//
// The route's destination does not exist on the interface. It is there so that
// a packet to a Service that kube-proxy has not rewritten yet is dropped here
// instead of following the default route out of the machine.
func (p Plan) Up() error {
	if err := p.checkFree(); err != nil {
		return err
	}
	link, err := netlink.LinkByName(p.Interface)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		attributes := netlink.NewLinkAttrs()
		attributes.Name = p.Interface
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attributes}); err != nil {
			return fmt.Errorf("adding interface %s: %w", p.Interface, err)
		}
		link, err = netlink.LinkByName(p.Interface)
	}
	if err != nil {
		return fmt.Errorf("finding interface %s: %w", p.Interface, err)
	}
	address := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(p.Node, 32))}
	if err := netlink.AddrReplace(link, address); err != nil {
		return fmt.Errorf("setting the address of %s: %w", p.Interface, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("enabling interface %s: %w", p.Interface, err)
	}
	for _, prefix := range []netip.Prefix{p.Pods, p.Services} {
		route := &netlink.Route{
			LinkIndex: link.Attrs().Index, Dst: ipNet(prefix), Scope: netlink.SCOPE_LINK, Src: p.Node.AsSlice(),
		}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("routing %s to %s: %w", prefix, p.Interface, err)
		}
	}
	return nil
}

// Down removes the interface and with it its addresses and routes. Pods'
// interfaces end with their network namespaces.
func (p Plan) Down() error {
	link, err := netlink.LinkByName(p.Interface)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finding interface %s: %w", p.Interface, err)
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("removing interface %s: %w", p.Interface, err)
	}
	return nil
}

// Interfaces lists what is left of the cluster's interfaces: its own, and any
// that carries the node's address (the host's ends of pods' interfaces do).
func (p Plan) Interfaces() ([]netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("listing interfaces: %w", err)
	}
	var ours []netlink.Link
	for _, link := range links {
		if link.Attrs().Name == p.Interface {
			ours = append(ours, link)
			continue
		}
		addresses, err := netlink.AddrList(link, unix.AF_INET)
		if err != nil {
			return nil, fmt.Errorf("listing addresses of %s: %w", link.Attrs().Name, err)
		}
		for _, a := range addresses {
			if a.IP.Equal(p.Node.AsSlice()) {
				ours = append(ours, link)
				break
			}
		}
	}
	return ours, nil
}

// checkFree refuses to start where another route already covers part of the
// cluster's ranges: the cluster would take over somebody's network.
func (p Plan) checkFree() error {
	ours, err := p.Interfaces()
	if err != nil {
		return err
	}
	known := map[int]bool{}
	for _, link := range ours {
		known[link.Attrs().Index] = true
	}
	routes, err := netlink.RouteList(nil, unix.AF_INET)
	if err != nil {
		return fmt.Errorf("listing routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil || known[r.LinkIndex] {
			continue
		}
		ones, _ := r.Dst.Mask.Size()
		address, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		if !ok || ones <= 8 { // a default or catch-all route is no claim to the range
			continue
		}
		destination := netip.PrefixFrom(address, ones)
		if destination.Overlaps(p.Pods) || destination.Overlaps(p.Services) {
			return fmt.Errorf("%w: route %s", ErrAddressInUse, destination)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

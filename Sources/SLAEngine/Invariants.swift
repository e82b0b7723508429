#if DEBUG
    // What holds between any two calls. Debug builds can check it; the property tests do, step after step.

    extension PagePool {
        /// Every page is used, free or without memory, once, and the bytes are counted right. O(pages).
        func checkInvariants() {
            let idle = Set(free.flatMap(\.self) + vacant)
            precondition(idle.count == free.reduce(vacant.count) { $0 + $1.count }, "a page is free twice")
            var bytes = 0
            for (page, count) in references.enumerated() {
                let page = Page(page)
                precondition(count >= 0, "page \(page) was released more often than retained")
                precondition((count == 0) == idle.contains(page), "page \(page) is free with holders, or lost without")
                if count > 0 { bytes += layout.bytes(kind(page)) }
            }
            precondition(used == references.count - idle.count && usedBytes == bytes && bytes <= budget, "the pages in use are miscounted")
            for (kind, pages) in free.enumerated() {
                precondition(pages.allSatisfy { self.kind($0) == kind }, "a page is free among those of another kind")
            }
        }
    }

    extension PageTable {
        /// Every page of the table is held, of the right kind, and none is there twice; what the next position sees is there. O(pages).
        func checkInvariants(_ pool: PagePool) {
            precondition(Set(held).count == held.count, "a page stands at two positions")
            for page in held { precondition(pool.holders(page) > 0, "page \(page) is free and in a table") }
            for (kind, (group, run)) in zip(pool.layout.groups, pages).enumerated() {
                precondition(run.pages.allSatisfy { pool.kind($0) == kind }, "a page is of another group")
                precondition(run.first <= group.window.first(seenFrom: count) / PagePool.pageSize, "a page that is seen was given back")
                precondition(run.end * PagePool.pageSize >= count, "a page is missing")
            }
            precondition((state != nil) == (hasState && count > 0), "a branch has no state, or one of nothing")
        }
    }

    extension PrefixCache {
        /// The tree's runs, pages, marks and checkpoints fit together, and the ring has everything once, children and checkpoints before those
        /// they belong to. O(tokens).
        func checkInvariants() {
            pool.checkInvariants()
            var places: [ObjectIdentifier: Int] = [ObjectIdentifier(root): .max]
            var entry = root.newer
            while let here = entry, here !== root {
                precondition(places.updateValue(places.count, forKey: ObjectIdentifier(here)) == nil, "an entry is in the ring twice")
                precondition(here.newer?.older === here && here.older?.newer === here, "the ring is broken")
                entry = here.newer
            }
            func isOlder(_ entry: Entry, than other: Entry) -> Bool {
                guard let own = places[ObjectIdentifier(entry)], let above = places[ObjectIdentifier(other)] else { return false }
                return own < above
            }
            var (stack, holders, count) = ([root], [PagePool.Page: Int](), 1)
            while let here = stack.popLast() {
                precondition(here.marks.count == here.tokens.count, "a token has no mark")
                if here.tokens.isEmpty {
                    precondition(here.parent === root || here === root, "a root stands below")
                    precondition(here === root || root.trees.values.contains { $0 === here }, "a tree is lost")
                    precondition(here.pages.isEmpty && here.end == 0, "a root has a run")
                } else {
                    let last = (here.end - 1) / PagePool.pageSize
                    precondition(here.pages.count == last - here.firstPage + 1, "a run does not fit its pages")
                }
                for page in here.pages + (here.checkpoint?.pages ?? []) { holders[page, default: 0] += 1 }
                if let checkpoint = here.checkpoint {
                    precondition(checkpoint.parent === here && isOlder(checkpoint, than: here), "a checkpoint was used later than its node")
                    precondition((checkpoint.state != nil) == (pool.layout.stateSize > 0), "a checkpoint has no state")
                    for (group, run) in zip(pool.layout.groups.dropFirst(), checkpoint.windows) {
                        precondition(run.first == group.window.first(seenFrom: here.end) / PagePool.pageSize, "a checkpoint lacks a page")
                        precondition(run.end == (here.end - 1) / PagePool.pageSize + 1, "a checkpoint does not end where its node does")
                    }
                    count += 1
                }
                for tree in here.trees.values {
                    precondition(here === root && tree.parent === root, "adapters have a tree below the root")
                    count += 1
                    stack.append(tree)
                }
                for (token, child) in here.children {
                    precondition(child.tokens.first == token && child.parent === here, "a child stands under another token")
                    precondition(child.start == here.end, "a child does not begin where its parent ends")
                    precondition(isOlder(child, than: here), "a child was used later than its parent")
                    count += 1
                    stack.append(child)
                }
            }
            precondition(count == places.count, "the ring has entries that the tree has not")
            for (page, held) in holders { precondition(pool.holders(page) >= held, "page \(page) has fewer holders than nodes") }
        }
    }

    extension ChunkTree {
        /// Leaves hold tables and inner nodes none; what grows is a leaf. O(chunks).
        func checkInvariants() {
            var (stack, open) = ([root], 0)
            while let chunk = stack.popLast() {
                precondition((chunk.table != nil) == chunk.children.isEmpty, "a chunk is neither leaf nor inner node")
                if chunk.isGrowing {
                    open += 1
                    precondition(chunk.children.isEmpty && growing.contains { $0 === chunk }, "what grows is not asked for rows")
                }
                for child in chunk.children {
                    precondition(child.level == chunk.level + 1 && child.branch.count > chunk.branch.count, "a child is no deeper")
                    stack.append(child)
                }
            }
            precondition(open == growing.count, "something grows outside of the tree")
        }
    }

    extension Engine {
        /// All of the above for everything that runs.
        func checkInvariants() {
            cache.checkInvariants()
            for job in jobs {
                (job.table ?? job.method?.history?.table)?.checkInvariants(cache.pool)
                switch job.method {
                case let method as StreamingLookAhead: method.tree.checkInvariants()
                case let method as MonteCarloTreeSearch: method.tree.checkInvariants()
                case let method as BestOf: method.tree.checkInvariants()
                default: break
                }
            }
        }
    }
#endif
